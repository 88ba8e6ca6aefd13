package enr

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/libp2p/go-libp2p/core/crypto"
	cryptopb "github.com/libp2p/go-libp2p/core/crypto/pb"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	keyIP4        = "ip"
	keyIP6        = "ip6"
	keyWaku2      = "waku2"
	keyMultiaddrs = "multiaddrs"
)

// ports returns where the ports of f are kept, by their keys.
func (f *Fields) ports() map[string]*uint16 {
	return map[string]*uint16{
		"tcp": &f.TCP, "udp": &f.UDP, "tcp6": &f.TCP6, "udp6": &f.UDP6,
	}
}

// Build makes and signs a record that says f. The key is the node's libp2p
// identity.
//
// What is zero is left out; no record carries an empty waku2, which readers
// disagree about. What doesn't fit into 300 bytes is left out as well: first
// multiaddrs, from the end, then the IPv6 address if there is an IPv4 one.
// The Record's Fields show what is left.
//
// The error is ErrKey, ErrAddress or ErrTooLarge.
func Build(key crypto.PrivKey, f Fields) (*Record, error) {
	secret, err := secretKey(key)
	if err != nil {
		return nil, err
	}
	self, err := peerID(secret.PubKey())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	for _, ip := range []struct {
		addr netip.Addr
		ok   bool
	}{{f.IP4, f.IP4.Is4()}, {f.IP6, f.IP6.Is6() && f.IP6.Zone() == "" && !f.IP6.Is4In6()}} {
		if ip.addr.IsValid() && !ip.ok {
			return nil, fmt.Errorf("%w: %s", ErrAddress, ip.addr)
		}
	}
	entries := make([][]byte, len(f.Multiaddrs))
	for i, a := range f.Multiaddrs {
		if entries[i], err = encodeMultiaddr(a, self); err != nil {
			return nil, err
		}
	}

	r := f.record(secret.PubKey(), entries)
	for size(r) > MaxSize {
		switch {
		case len(entries) > 0:
			entries = entries[:len(entries)-1]
		case f.IP4.IsValid() && f.IP6.IsValid():
			f.IP6, f.TCP6, f.UDP6 = netip.Addr{}, 0, 0
		default:
			return nil, ErrTooLarge
		}
		r = f.record(secret.PubKey(), entries)
	}
	if err := (v4{}).sign(r, secret); err != nil {
		return nil, err
	}
	return newRecord(r)
}

func secretKey(key crypto.PrivKey) (*secp256k1.PrivateKey, error) {
	if key == nil || key.Type() != cryptopb.KeyType_Secp256k1 {
		return nil, ErrKey
	}
	raw, err := key.Raw()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	var d secp256k1.ModNScalar
	if len(raw) != 32 || d.SetByteSlice(raw) || d.IsZero() {
		return nil, ErrKey
	}
	return secp256k1.NewPrivateKey(&d), nil
}

// record puts f into an unsigned record.
func (f *Fields) record(key *secp256k1.PublicKey, multiaddrs [][]byte) *gethenr.Record {
	r := new(gethenr.Record)
	r.SetSeq(f.Seq)
	put := func(key string, value []byte) { r.Set(gethenr.WithEntry(key, value)) }
	r.Set(schemeName)
	put(keySecp256k1, key.SerializeCompressed())
	if f.IP4.IsValid() {
		put(keyIP4, f.IP4.AsSlice())
	}
	if f.IP6.IsValid() {
		put(keyIP6, f.IP6.AsSlice())
	}
	for key, port := range f.ports() {
		if *port != 0 {
			r.Set(gethenr.WithEntry(key, *port))
		}
	}
	if c := f.Capabilities & knownCapabilities; c != 0 {
		put(keyWaku2, []byte{byte(c)})
	}
	if len(multiaddrs) > 0 {
		put(keyMultiaddrs, slices.Concat(multiaddrs...))
	}
	f.Shards.WriteRecord(put, func(string) {})
	return r
}

// size returns the length that r will have when signed.
func size(r *gethenr.Record) int {
	list := r.AppendElements([]any{make([]byte, signatureLen)})
	raw, err := rlp.EncodeToBytes(list)
	if err != nil {
		panic(err) // the elements are numbers, strings and valid RLP
	}
	return len(raw)
}

// appendTCP appends the address of a TCP port, unless there is none or its IP
// address says "any", which dialled would mean oneself.
func appendTCP(addrs []ma.Multiaddr, ip netip.Addr, port uint16) []ma.Multiaddr {
	if !ip.IsValid() || ip.IsUnspecified() || port == 0 {
		return addrs
	}
	family := "ip4"
	if ip.Is6() {
		family = "ip6"
	}
	a, err := ma.NewMultiaddr(fmt.Sprintf("/%s/%s/tcp/%d", family, ip, port))
	if err != nil {
		return addrs
	}
	return append(addrs, a)
}
