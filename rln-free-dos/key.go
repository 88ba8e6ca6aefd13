package dosguard

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Key sizes in bytes.
const (
	PrivateKeySize            = 32 // big-endian number
	PublicKeySize             = 33 // compressed: 02 or 03, then x
	UncompressedPublicKeySize = 65 // 04, then x and y

	// TableSize is the memory that a PublicKey takes from its first Verify on.
	TableSize = combSize
)

// What can be wrong with a key. A [*KeyError] wraps one of them.
var (
	// ErrKeyHex means that the text isn't hexadecimal.
	ErrKeyHex = errors.New("it must be hexadecimal digits, with or without 0x in front")
	// ErrKeySize means that it has another size than such a key has.
	ErrKeySize = errors.New("it has the wrong size")
	// ErrKeyRange means a private key that is zero or not below the group's order.
	ErrKeyRange = errors.New("it is outside the range of secp256k1 keys, 1 to n-1")
	// ErrKeyFormat means a public key whose first byte doesn't fit its size.
	ErrKeyFormat = errors.New("it must begin with 02 or 03 (33 bytes) or 04 (65 bytes)")
	// ErrKeyNotOnCurve means a public key that is no point of secp256k1.
	ErrKeyNotOnCurve = errors.New("it is not a point of the curve secp256k1")
)

// KeyError says why a key can't be used. It never contains the key.
type KeyError struct {
	Kind string // "private key" or "public key"
	Err  error  // one of the ErrKey… values, or an error that wraps it
}

// Error implements error.
func (e *KeyError) Error() string { return "dosguard: bad " + e.Kind + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *KeyError) Unwrap() error { return e.Err }

// PrivateKey signs a community's messages. It is immutable, and nothing that
// prints it prints the secret, except Hex and Bytes.
type PrivateKey struct {
	key    *secp256k1.PrivateKey
	public *PublicKey
}

// GenerateKey returns a new key from the system's random source.
func GenerateKey() (*PrivateKey, error) { return generateKey(rand.Reader) }

func generateKey(random io.Reader) (*PrivateKey, error) {
	key, err := secp256k1.GeneratePrivateKeyFromRand(random)
	if err != nil {
		return nil, fmt.Errorf("dosguard: generate key: %w", err)
	}
	return newPrivateKey(key), nil
}

func newPrivateKey(key *secp256k1.PrivateKey) *PrivateKey {
	return &PrivateKey{key: key, public: newPublicKey(key.PubKey())}
}

// ParsePrivateKey reads 64 hexadecimal digits, with or without 0x in front;
// space around them is ignored. The error is a [*KeyError].
func ParsePrivateKey(text string) (*PrivateKey, error) {
	b, err := decodeHex("private key", text)
	if err != nil {
		return nil, err
	}
	return PrivateKeyFromBytes(b)
}

// PrivateKeyFromBytes reads 32 bytes. The error is a [*KeyError].
func PrivateKeyFromBytes(b []byte) (*PrivateKey, error) {
	const kind = "private key"
	if len(b) != PrivateKeySize {
		return nil, &KeyError{kind, fmt.Errorf("%w: %d bytes, not %d%s", ErrKeySize, len(b), PrivateKeySize, sizeHint(kind, len(b)))}
	}
	var d secp256k1.ModNScalar
	if overflow := d.SetByteSlice(b); overflow || d.IsZero() {
		return nil, &KeyError{kind, ErrKeyRange}
	}
	return newPrivateKey(secp256k1.NewPrivateKey(&d)), nil
}

// PublicKey returns the key that verifies k's signatures, always the same value.
func (k *PrivateKey) PublicKey() *PublicKey { return k.public }

// Bytes returns the secret as 32 bytes.
func (k *PrivateKey) Bytes() []byte { return k.key.Serialize() }

// Hex returns the secret as 64 lower-case hexadecimal digits.
func (k *PrivateKey) Hex() string { return hex.EncodeToString(k.Bytes()) }

// Format implements fmt.Formatter: every verb names the public key.
func (k *PrivateKey) Format(f fmt.State, _ rune) {
	if k == nil {
		io.WriteString(f, "<nil>")
		return
	}
	io.WriteString(f, "private key of "+k.public.Hex())
}

// SignDigest returns the signature of a 32-byte digest: RFC 6979 without extra
// entropy, s at most n/2, r followed by s, 64 bytes. One digest has one
// signature.
func (k *PrivateKey) SignDigest(digest [32]byte) []byte {
	sig := ecdsa.Sign(k.key, digest[:])
	r, s := sig.R(), sig.S()
	out := make([]byte, SignatureSize)
	r.PutBytesUnchecked(out[:32])
	s.PutBytesUnchecked(out[32:])
	return out
}

// PublicKey verifies a community's signatures. It is immutable and may be shared
// by everybody in the process, which is worth while: its first Verify computes a
// table that makes all further ones fast, and the table lives in this value.
// Don't copy it.
type PublicKey struct {
	key *secp256k1.PublicKey

	once  sync.Once
	table *comb
}

func newPublicKey(key *secp256k1.PublicKey) *PublicKey { return &PublicKey{key: key} }

// ParsePublicKey reads a compressed or uncompressed key in hexadecimal digits, 66
// or 130 of them, with or without 0x in front; space around them is ignored. The
// error is a [*KeyError].
func ParsePublicKey(text string) (*PublicKey, error) {
	b, err := decodeHex("public key", text)
	if err != nil {
		return nil, err
	}
	return PublicKeyFromBytes(b)
}

// PublicKeyFromBytes reads a compressed (33 bytes) or uncompressed (65 bytes) key.
// The error is a [*KeyError].
func PublicKeyFromBytes(b []byte) (*PublicKey, error) {
	const kind = "public key"
	switch {
	case len(b) != PublicKeySize && len(b) != UncompressedPublicKeySize:
		return nil, &KeyError{kind, fmt.Errorf("%w: %d bytes, not %d or %d%s",
			ErrKeySize, len(b), PublicKeySize, UncompressedPublicKeySize, sizeHint(kind, len(b)))}
	case len(b) == PublicKeySize && b[0] != 2 && b[0] != 3,
		len(b) == UncompressedPublicKeySize && b[0] != 4:
		return nil, &KeyError{kind, fmt.Errorf("%w: it begins with %02x", ErrKeyFormat, b[0])}
	}
	key, err := secp256k1.ParsePubKey(b)
	if err != nil {
		return nil, &KeyError{kind, ErrKeyNotOnCurve}
	}
	return newPublicKey(key), nil
}

// Bytes returns the key in compressed form, 33 bytes.
func (k *PublicKey) Bytes() []byte { return k.key.SerializeCompressed() }

// Uncompressed returns the key in uncompressed form, 65 bytes, as other nodes'
// configurations want it.
func (k *PublicKey) Uncompressed() []byte { return k.key.SerializeUncompressed() }

// Hex returns the compressed form as 66 lower-case hexadecimal digits.
func (k *PublicKey) Hex() string { return hex.EncodeToString(k.Bytes()) }

// String is Hex.
func (k *PublicKey) String() string { return k.Hex() }

// Equal reports whether both are the same key. Nil equals only nil.
func (k *PublicKey) Equal(other *PublicKey) bool {
	if k == nil || other == nil {
		return k == other
	}
	return k.key.IsEqual(other.key)
}

// comb returns the key's table.
func (k *PublicKey) comb() *comb {
	k.once.Do(func() {
		b := k.key.SerializeUncompressed()
		k.table = newComb(affineFromBytes((*[32]byte)(b[1:]), (*[32]byte)(b[33:])))
	})
	return k.table
}

// maxKeyText bounds the text that is looked at: no key is longer in hexadecimal.
const maxKeyText = 2 + 2*UncompressedPublicKeySize

func decodeHex(kind, text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	digits, found := strings.CutPrefix(text, "0x")
	if !found {
		digits, _ = strings.CutPrefix(text, "0X")
	}
	if len(digits) > maxKeyText {
		return nil, &KeyError{kind, fmt.Errorf("%w: %d hexadecimal digits", ErrKeySize, len(digits))}
	}
	b, err := hex.DecodeString(digits)
	switch {
	case errors.Is(err, hex.ErrLength):
		return nil, &KeyError{kind, fmt.Errorf("%w: %d digits, an odd number", ErrKeyHex, len(digits))}
	case err != nil:
		// The decoder's own error quotes the digit; this may be a secret.
		return nil, &KeyError{kind, ErrKeyHex}
	}
	return b, nil
}

// sizeHint guesses what somebody gave in place of the key.
func sizeHint(kind string, n int) string {
	const public = "public key"
	switch {
	case n == 0:
		return ", it is empty"
	case n == PrivateKeySize && kind == public:
		return "; 32 bytes are a private key"
	case (n == PublicKeySize || n == UncompressedPublicKeySize) && kind != public:
		return fmt.Sprintf("; %d bytes are a public key", n)
	case n == UncompressedPublicKeySize-1 && kind == public:
		return "; an uncompressed key has 04 in front of these 64"
	case n == 2*PrivateKeySize, n == 2*PublicKeySize, n == 2*UncompressedPublicKeySize:
		return "; is it hexadecimal text?"
	}
	return ""
}
