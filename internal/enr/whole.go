package enr

import (
	"encoding/binary"

	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
	ma "github.com/multiformats/go-multiaddr"
)

// Whole reports whether the addresses are written so that everybody can read them,
// who may be less forgiving than Decode: every entry of multiaddrs is an address and
// nothing is left over, which go-waku never comes to the end of, or panics over; and
// the port that goes with the IP address is there. Hand no others on.
func (r *Record) Whole() bool {
	f := r.fields
	has4, has6 := f.IP4.IsValid() && !f.IP4.IsMulticast(), f.IP6.IsValid() && !f.IP6.IsMulticast()
	// Of two addresses readers may take either. The port of IPv6 they may not take
	// from IPv4, as Addrs does.
	local4 := !has4 || !f.IP4.IsGlobalUnicast() || f.IP4.IsPrivate()
	if f.TCP != 0 && (!has4 && !has6 || has6 && local4 && f.TCP6 == 0) {
		return false
	}
	var decoded gethenr.Record
	if rlp.DecodeBytes(r.raw, &decoded) != nil {
		return false
	}
	for _, key := range r.keys {
		if key == keyMultiaddrs {
			b, ok := load(&decoded, keyMultiaddrs)
			return ok && wholeMultiaddrs(b)
		}
	}
	return true
}

func wholeMultiaddrs(b []byte) bool {
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n > len(b) {
			return false
		}
		if _, err := ma.NewMultiaddrBytes(b[:n]); err != nil {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}
