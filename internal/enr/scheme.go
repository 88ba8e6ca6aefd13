package enr

import (
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
	"golang.org/x/crypto/sha3"
)

// v4 is EIP-778's identity scheme: r ‖ s over keccak256 of the record without
// its signature. go-ethereum's own lives in a package that pulls in C.
type v4 struct{}

const (
	schemeName   = gethenr.IDv4
	signatureLen = 64
)

func keccak256(b []byte) (sum [32]byte) {
	h := sha3.NewLegacyKeccak256()
	h.Write(b)
	h.Sum(sum[:0])
	return sum
}

// digest is what is signed.
func digest(r *gethenr.Record) [32]byte {
	content, err := rlp.EncodeToBytes(r.AppendElements(nil))
	if err != nil {
		panic(err) // the elements are numbers, strings and valid RLP
	}
	return keccak256(content)
}

// Sign signs r, or returns ErrTooLarge.
func (v4) sign(r *gethenr.Record, key *secp256k1.PrivateKey) error {
	sum := digest(r)
	sig := ecdsa.Sign(key, sum[:]) // RFC 6979, low s
	rr, ss := sig.R(), sig.S()
	rb, sb := rr.Bytes(), ss.Bytes()
	return r.SetSig(v4{}, append(rb[:], sb[:]...))
}

// Verify implements enr.IdentityScheme. Like everyone else's it refuses the
// second form of a signature, with s above half the order.
func (v4) Verify(r *gethenr.Record, sig []byte) error {
	key, err := loadKey(r)
	if err != nil {
		return err
	}
	return verify(r, key, sig)
}

func verify(r *gethenr.Record, key *secp256k1.PublicKey, sig []byte) error {
	if len(sig) != signatureLen {
		return ErrSignature
	}
	var rr, ss secp256k1.ModNScalar
	if rr.SetByteSlice(sig[:32]) || ss.SetByteSlice(sig[32:]) || rr.IsZero() || ss.IsZero() || ss.IsOverHalfOrder() {
		return ErrSignature
	}
	sum := digest(r)
	if !ecdsa.NewSignature(&rr, &ss).Verify(sum[:], key) {
		return ErrSignature
	}
	return nil
}

// NodeAddr implements enr.IdentityScheme.
func (v4) NodeAddr(r *gethenr.Record) []byte {
	key, err := loadKey(r)
	if err != nil {
		return nil
	}
	id := nodeID(key)
	return id[:]
}

func nodeID(key *secp256k1.PublicKey) [32]byte {
	return keccak256(key.SerializeUncompressed()[1:])
}

const keySecp256k1 = "secp256k1"

func loadKey(r *gethenr.Record) (*secp256k1.PublicKey, error) {
	b, ok := load(r, keySecp256k1)
	if !ok || len(b) != secp256k1.PubKeyBytesLenCompressed {
		return nil, ErrKey
	}
	key, err := secp256k1.ParsePubKey(b)
	if err != nil {
		return nil, ErrKey
	}
	return key, nil
}

// load returns the value of a key whose value is a byte string.
func load(r *gethenr.Record, key string) ([]byte, bool) {
	var b []byte
	if err := r.Load(gethenr.WithEntry(key, &b)); err != nil {
		return nil, false
	}
	return b, true
}
