package waku

// GenerateNodeKey returns a new identity for [WithNodeKey].
func GenerateNodeKey() []byte { return nil }

// ParseNodeKey reads an identity from 64 hex digits; a 0x in front and white
// space around them don't matter.
func ParseNodeKey(hex string) ([]byte, error) { return nil, errNotYet }
