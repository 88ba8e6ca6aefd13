// Package dnstest publishes trees of node records (EIP-1459) for tests and
// local networks: Publish signs a tree, a Zone holds what its names say and how
// they misbehave, a Server answers for the Zone by UDP and TCP.
//
//	tree, err := dnstest.Publish(key, "nodes.example.org", dnstest.Content{Seq: 1, Records: records})
//	server, err := dnstest.Serve(dnstest.NewZone(tree))
//	// tree.URL is found by asking server.Addr()
//
// A Zone is a resolver too, for tests that need no sockets.
package dnstest

import (
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/libp2p/go-libp2p/core/crypto"
	"golang.org/x/crypto/sha3"

	"github.com/status-im/shoal/internal/enr"
)

// Content is what a tree says.
type Content struct {
	Seq     uint64
	Records []*enr.Record
	// Leaves are further texts among the records, whatever they say.
	Leaves []string
	Links  []string // URLs of other trees
	// Width is how many children a branch has at most; 0: 13, which keeps an
	// entry below 370 bytes.
	Width int
}

// Tree is a signed tree.
type Tree struct {
	URL    string
	Domain string
	TXT    map[string]string // what to publish, by full name, without a dot at the end
	// Leaves are the names of the records and Content.Leaves, in that order.
	Leaves []string
}

var b32 = base32.StdEncoding.WithPadding(base32.NoPadding)

func keccak256(text string) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Label returns the name of an entry within its tree.
func Label(text string) string { return b32.EncodeToString(keccak256(text)[:16]) }

// URL returns the URL of a tree that is signed by key, which is of secp256k1.
func URL(key crypto.PrivKey, domain string) (string, error) {
	raw, err := key.GetPublic().Raw()
	if err != nil || key.Type() != crypto.Secp256k1 {
		return "", errors.New("dnstest: not a secp256k1 key")
	}
	return "enrtree://" + b32.EncodeToString(raw) + "@" + domain, nil
}

// Publish makes and signs a tree.
func Publish(key crypto.PrivKey, domain string, c Content) (Tree, error) {
	url, err := URL(key, domain)
	if err != nil {
		return Tree{}, err
	}
	t := Tree{URL: url, Domain: domain, TXT: make(map[string]string)}
	leaves := make([]string, 0, len(c.Records)+len(c.Leaves))
	for _, r := range c.Records {
		leaves = append(leaves, r.String())
	}
	leaves = append(leaves, c.Leaves...)
	for _, text := range leaves {
		t.Leaves = append(t.Leaves, t.name(text))
	}
	width := c.Width
	if width < 2 {
		width = 13
	}
	e := t.grow(leaves, width)
	l := t.grow(c.Links, width)
	t.TXT[domain], err = Sign(key, fmt.Sprintf("enrtree-root:v1 e=%s l=%s seq=%d", e, l, c.Seq))
	return t, err
}

func (t Tree) name(text string) string { return Label(text) + "." + t.Domain }

func (t Tree) put(text string) (label string) {
	t.TXT[t.name(text)] = text
	return Label(text)
}

// grow publishes texts and the branches above them, and returns the topmost.
func (t Tree) grow(texts []string, width int) (label string) {
	level := make([]string, len(texts))
	for i, text := range texts {
		level[i] = t.put(text)
	}
	for {
		var above []string
		for len(level) > width {
			above = append(above, t.put("enrtree-branch:"+strings.Join(level[:width], ",")))
			level = level[width:]
		}
		above = append(above, t.put("enrtree-branch:"+strings.Join(level, ",")))
		if len(above) == 1 {
			return above[0]
		}
		level = above
	}
}

// Sign returns a root: text, which says all the rest, and its signature.
func Sign(key crypto.PrivKey, text string) (string, error) {
	raw, err := key.Raw()
	if err != nil {
		return "", err
	}
	sig := ecdsa.SignCompact(secp256k1.PrivKeyFromBytes(raw), keccak256(text), false)
	sig = append(sig[1:], sig[0]-27) // v comes last
	return text + " sig=" + base64.RawURLEncoding.EncodeToString(sig), nil
}
