package enr

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

const prefix = "enr:"

// Parse reads a record's text form and verifies its signature. The error is
// ErrMalformed, ErrTooLarge, ErrKey or ErrSignature.
//
// A key whose value makes no sense is treated as missing, since the rest of the
// record may well be of use; only the shards' error is kept, for Shards.
func Parse(text string) (*Record, error) {
	encoded, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return nil, fmt.Errorf("%w: no %q at the beginning", ErrMalformed, prefix)
	}
	if len(encoded) > base64.RawURLEncoding.EncodedLen(MaxSize) {
		return nil, ErrTooLarge
	}
	if strings.ContainsAny(encoded, "\r\n") {
		return nil, fmt.Errorf("%w: line break", ErrMalformed) // the decoder would skip it
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return Decode(raw)
}

// Decode is Parse for the RLP encoding.
func Decode(raw []byte) (*Record, error) {
	if len(raw) > MaxSize {
		return nil, ErrTooLarge
	}
	var r gethenr.Record
	if err := rlp.DecodeBytes(raw, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if scheme := r.IdentityScheme(); scheme != string(schemeName) {
		return nil, fmt.Errorf("%w: identity scheme %q", ErrMalformed, scheme)
	}
	key, err := loadKey(&r)
	if err != nil {
		return nil, err
	}
	if err := verify(&r, key, r.Signature()); err != nil {
		return nil, err
	}
	return read(&r, key)
}

// DecodeVerified is Decode for what Decode has read before: it doesn't look at the
// signature again, which is most of the work.
func DecodeVerified(raw []byte) (*Record, error) {
	var r gethenr.Record
	if err := rlp.DecodeBytes(raw, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return newRecord(&r)
}

// newRecord reads the values of a record whose signature is good.
func newRecord(r *gethenr.Record) (*Record, error) {
	key, err := loadKey(r)
	if err != nil {
		return nil, err
	}
	return read(r, key)
}

func read(r *gethenr.Record, key *secp256k1.PublicKey) (*Record, error) {
	raw, err := rlp.EncodeToBytes(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	out := &Record{raw: raw, nodeID: nodeID(key), publicKey: [33]byte(key.SerializeCompressed())}
	if out.peerID, err = peerID(key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	elements := r.AppendElements(nil)[1:]
	for i := 0; i < len(elements); i += 2 {
		out.keys = append(out.keys, elements[i].(string))
	}
	out.shardsErr = out.fields.read(r, out.peerID)
	return out, nil
}

func peerID(key *secp256k1.PublicKey) (peer.ID, error) {
	pub, err := crypto.UnmarshalSecp256k1PublicKey(key.SerializeCompressed())
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(pub)
}

// read fills f from r. The error concerns the shards.
func (f *Fields) read(r *gethenr.Record, self peer.ID) error {
	f.Seq = r.Seq()
	if b, ok := load(r, keyIP4); ok && len(b) == 4 {
		f.IP4 = netip.AddrFrom4([4]byte(b))
	}
	if b, ok := load(r, keyIP6); ok && len(b) == 16 {
		f.IP6 = netip.AddrFrom16([16]byte(b))
	}
	for key, port := range f.ports() {
		_ = r.Load(gethenr.WithEntry(key, port)) // stays zero on error
	}
	// One byte, as a number or as itself: nwaku writes zero as a zero byte,
	// go-waku as nothing.
	if b, ok := load(r, keyWaku2); ok && len(b) == 1 {
		f.Capabilities = Capabilities(b[0]) & knownCapabilities
	}
	if b, ok := load(r, keyMultiaddrs); ok {
		f.Multiaddrs = decodeMultiaddrs(b, self)
	}
	var err error
	f.Shards, err = sharding.ReadRecord(func(key string) ([]byte, bool) { return load(r, key) })
	return err
}
