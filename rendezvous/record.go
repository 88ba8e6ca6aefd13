package rendezvous

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
)

// The fields of a signed envelope, of the peer record in it, and of its addresses.
const (
	envKey       protowire.Number = 1
	envType      protowire.Number = 2
	envPayload   protowire.Number = 3
	envSignature protowire.Number = 5

	recPeer  protowire.Number = 1
	recSeq   protowire.Number = 2
	recAddrs protowire.Number = 3

	addrBytes protowire.Number = 1
)

// signedRecord is a signed peer record that was verified.
type signedRecord struct {
	peer  peer.ID
	seq   uint64
	addrs []ma.Multiaddr // those that can be read
}

// openRecord verifies a signed peer record, and says what is wrong with it, "" if
// nothing is. Its bounds are kept before anything is copied and anything is computed.
func openRecord(raw []byte) (r signedRecord, wrong string) {
	if len(raw) > maxRecord {
		return signedRecord{}, RefusedTooLarge
	}
	var key, typ, payload, sig []byte
	err := wire.Fields(raw, func(f wire.Field) (err error) {
		switch f.Num {
		case envKey:
			key, err = f.Raw("public_key")
		case envType:
			typ, err = f.Raw("payload_type")
		case envPayload:
			payload, err = f.Raw("payload")
		case envSignature:
			sig, err = f.Raw("signature")
		}
		return err
	})
	if err != nil || len(key) == 0 || len(sig) == 0 || !bytes.Equal(typ, peer.PeerRecordEnvelopePayloadType) {
		return signedRecord{}, RefusedMalformed
	}
	if r, wrong = decodePayload(payload); wrong != "" {
		return signedRecord{}, wrong
	}
	pub, err := crypto.UnmarshalPublicKey(key)
	if err != nil {
		return signedRecord{}, RefusedMalformed
	}
	if !r.peer.MatchesPublicKey(pub) {
		return signedRecord{}, RefusedSignature
	}
	if ok, err := pub.Verify(unsigned(typ, payload), sig); err != nil || !ok {
		return signedRecord{}, RefusedSignature
	}
	if len(r.addrs) == 0 {
		return signedRecord{}, RefusedNoAddress
	}
	return r, ""
}

// unsigned is what the signature of an envelope is about.
func unsigned(typ, payload []byte) []byte {
	const domain = peer.PeerRecordEnvelopeDomain
	b := make([]byte, 0, len(domain)+len(typ)+len(payload)+3*binary.MaxVarintLen32)
	b = append(binary.AppendUvarint(b, uint64(len(domain))), domain...)
	b = append(binary.AppendUvarint(b, uint64(len(typ))), typ...)
	return append(binary.AppendUvarint(b, uint64(len(payload))), payload...)
}

// decodePayload reads a peer record. An address that can't be read is left out, and
// so is one that leads to somebody else.
func decodePayload(b []byte) (r signedRecord, wrong string) {
	var (
		id    []byte
		addrs [][]byte
		size  int
	)
	err := wire.Fields(b, func(f wire.Field) (err error) {
		switch f.Num {
		case recPeer:
			id, err = f.Raw("peer_id")
		case recSeq:
			r.seq, err = f.Varint("seq")
		case recAddrs:
			var info, a []byte
			if info, err = f.Raw("addresses"); err != nil {
				break
			}
			err = wire.Fields(info, func(f wire.Field) (err error) {
				if f.Num == addrBytes {
					a, err = f.Raw("multiaddr")
				}
				return err
			})
			if size += len(a); len(addrs) <= MaxAddrs {
				addrs = append(addrs, a)
			}
		}
		return err
	})
	if err != nil {
		return signedRecord{}, RefusedMalformed
	}
	if len(addrs) > MaxAddrs || size > MaxAddrBytes {
		return signedRecord{}, RefusedTooLarge
	}
	if r.peer, err = peer.IDFromBytes(id); err != nil {
		return signedRecord{}, RefusedMalformed
	}
	for _, a := range addrs {
		if m := readAddr(r.peer, a); m != nil {
			r.addrs = append(r.addrs, m)
		}
	}
	return r, ""
}

// readAddr reads an address of p's, without p at its end.
func readAddr(p peer.ID, b []byte) ma.Multiaddr {
	m, err := ma.NewMultiaddrBytes(b)
	if err != nil || len(m) == 0 {
		return nil
	}
	m, id := peer.SplitAddr(m)
	if len(m) == 0 || id != "" && id != p {
		return nil
	}
	return m
}

// seal signs addresses, the first of them that fit.
func seal(key crypto.PrivKey, addrs []ma.Multiaddr) ([]byte, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	rec := peer.NewPeerRecord()
	rec.PeerID = id
	size := 0
	for _, a := range addrs {
		n := len(a.Bytes())
		if n == 0 || size+n > MaxAddrBytes || len(rec.Addrs) >= MaxAddrs {
			continue
		}
		size += n
		rec.Addrs = append(rec.Addrs, a)
	}
	if len(rec.Addrs) == 0 {
		return nil, ErrNoAddress
	}
	env, err := record.Seal(rec, key)
	if err != nil {
		return nil, fmt.Errorf("rendezvous: signing: %w", err)
	}
	b, err := env.Marshal()
	if err != nil {
		return nil, fmt.Errorf("rendezvous: signing: %w", err)
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("rendezvous: a record of %d bytes", len(b))
	}
	return b, nil
}
