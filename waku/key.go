package waku

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/libp2p/go-libp2p/core/crypto"
)

// nodeKeyLen is the length of a secp256k1 private key in bytes.
const nodeKeyLen = 32

var errNodeKeyRange = errors.New("these 32 bytes are no secp256k1 private key (zero, or not below the group order): make one with GenerateNodeKey")

// GenerateNodeKey returns a new identity for [WithNodeKey].
func GenerateNodeKey() []byte {
	key, err := secp256k1.GeneratePrivateKeyFromRand(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand doesn't fail
	}
	return key.Serialize()
}

// ParseNodeKey reads an identity from 64 hex digits; a 0x in front and white
// space around them don't matter. The error doesn't quote the text.
func ParseNodeKey(text string) ([]byte, error) {
	text = strings.TrimPrefix(strings.TrimSpace(text), "0x")
	key, err := hex.DecodeString(text)
	switch {
	case err != nil:
		return nil, errors.New("waku: node key: want 64 hex digits, found something else")
	case len(key) != nodeKeyLen:
		return nil, fmt.Errorf("waku: node key: want %d hex digits, found %d", 2*nodeKeyLen, len(text))
	}
	if _, err := identityFrom(key); err != nil {
		return nil, fmt.Errorf("waku: node key: %w", err)
	}
	return key, nil
}

// identityFrom checks what libp2p would take modulo the group order.
func identityFrom(key []byte) (crypto.PrivKey, error) {
	if len(key) != nodeKeyLen {
		return nil, fmt.Errorf("the key has %d bytes, want %d: make one with GenerateNodeKey", len(key), nodeKeyLen)
	}
	var s secp256k1.ModNScalar
	if overflow := s.SetByteSlice(key); overflow || s.IsZero() {
		return nil, errNodeKeyRange
	}
	return crypto.UnmarshalSecp256k1PrivateKey(key)
}
