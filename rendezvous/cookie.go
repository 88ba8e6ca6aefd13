package rendezvous

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// A cookie is the number of the last registration seen and a proof that this point
// gave it for this namespace: 8 and 16 bytes. It is worth nothing after a restart,
// when the numbers begin anew.
const (
	cookieProof = 16
	cookieSize  = 8 + cookieProof
)

type cookies struct{ key [32]byte }

func newCookies() *cookies {
	c := new(cookies)
	rand.Read(c.key[:]) // never fails
	return c
}

func (c *cookies) bake(ns string, number uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, cookieSize), number)
	return append(b, c.proof(ns, b)...)
}

// number reads a cookie. Without one it is the beginning, of which first tells.
func (c *cookies) number(ns string, b []byte) (number uint64, first, ok bool) {
	switch {
	case len(b) == 0:
		return 0, true, true
	case len(b) != cookieSize || !hmac.Equal(b[8:], c.proof(ns, b[:8])):
		return 0, false, false
	}
	return binary.BigEndian.Uint64(b), false, true
}

func (c *cookies) proof(ns string, number []byte) []byte {
	m := hmac.New(sha256.New, c.key[:])
	m.Write(number)
	m.Write([]byte(ns))
	return m.Sum(nil)[:cookieProof]
}
