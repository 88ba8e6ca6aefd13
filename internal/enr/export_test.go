package enr

import (
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// SignPairs signs a record of RLP encoded values, whatever they are. The key
// pair is added.
func SignPairs(key crypto.PrivKey, seq uint64, pairs map[string][]byte) (*Record, error) {
	secret, err := secretKey(key)
	if err != nil {
		return nil, err
	}
	r := new(gethenr.Record)
	r.SetSeq(seq)
	r.Set(schemeName)
	r.Set(gethenr.WithEntry(keySecp256k1, secret.PubKey().SerializeCompressed()))
	for k, v := range pairs {
		r.Set(gethenr.WithEntry(k, rlp.RawValue(v)))
	}
	if err := (v4{}).sign(r, secret); err != nil {
		return nil, err
	}
	return newRecord(r)
}

// ReadPairs reads an unsigned record of RLP encoded values, whatever they are,
// without any work on the curve.
func ReadPairs(self peer.ID, pairs map[string][]byte) Fields {
	r := new(gethenr.Record)
	for k, v := range pairs {
		r.Set(gethenr.WithEntry(k, rlp.RawValue(v)))
	}
	var f Fields
	_ = f.read(r, self)
	return f
}

// WriteAndRead puts f into an unsigned record and reads that.
func WriteAndRead(self peer.ID, key *secp256k1.PublicKey, f Fields) (Fields, error) {
	var entries [][]byte
	for _, a := range f.Multiaddrs {
		e, err := encodeMultiaddr(a, self)
		if err != nil {
			return Fields{}, err
		}
		entries = append(entries, e)
	}
	var again Fields
	err := again.read(f.record(key, entries), self)
	return again, err
}

// RLPBytes encodes a byte string.
func RLPBytes(b []byte) []byte {
	out, err := rlp.EncodeToBytes(b)
	if err != nil {
		panic(err)
	}
	return out
}
