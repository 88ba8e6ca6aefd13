package dnsdisc

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

const linkPrefix = "enrtree://"

var b32 = base32.StdEncoding.WithPadding(base32.NoPadding)

// URL names a tree: whose signature it bears, and where it is. URLs can be
// compared with ==.
type URL struct {
	Domain string // lower case, without a dot at the end
	key    [secp256k1.PubKeyBytesLenCompressed]byte
}

// String returns the URL's text.
func (u URL) String() string { return linkPrefix + b32.EncodeToString(u.key[:]) + "@" + u.Domain }

// Key returns the compressed secp256k1 key that the tree is signed with.
func (u URL) Key() []byte { return u.key[:] }

// ParseURL reads a tree's URL. The error is an *Error with ErrURL.
func ParseURL(text string) (URL, error) {
	u, err := parseURL(text)
	if err != nil {
		return URL{}, &Error{Tree: fmt.Sprintf("%.200q", text), Err: ErrURL, Cause: err}
	}
	return u, nil
}

func parseURL(text string) (u URL, err error) {
	rest, ok := strings.CutPrefix(text, linkPrefix)
	if !ok {
		return u, fmt.Errorf("it doesn't begin with %s", linkPrefix)
	}
	key, domain, ok := strings.Cut(rest, "@")
	if !ok {
		return u, errors.New("no @ between key and domain name")
	}
	if len(key) != b32.EncodedLen(len(u.key)) {
		return u, fmt.Errorf("a key has %d characters, not %d", b32.EncodedLen(len(u.key)), len(key))
	}
	raw, err := b32.DecodeString(upper(key))
	if err != nil || len(raw) != len(u.key) {
		return u, errors.New("the key isn't base32")
	}
	if _, err := secp256k1.ParsePubKey(raw); err != nil {
		return u, errors.New("the key isn't one of secp256k1")
	}
	u.key = [len(u.key)]byte(raw)
	u.Domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	return u, checkDomain(u.Domain)
}

// maxDomain leaves room for the longest hash and its dot below 253 bytes.
const maxDomain = 253 - 1 - 52

func checkDomain(domain string) error {
	if len(domain) > maxDomain {
		return fmt.Errorf("the domain name is longer than %d bytes", maxDomain)
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 {
			return errors.New("the domain name has an empty or too long part")
		}
		for _, c := range []byte(label) {
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return fmt.Errorf("the domain name has a %q", c)
			}
		}
	}
	return nil
}

// upper is strings.ToUpper for ASCII: other letters have none among base32's.
func upper(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}
