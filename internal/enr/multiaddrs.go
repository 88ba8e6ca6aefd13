package enr

import (
	"encoding/binary"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

var circuit = mustComponent("p2p-circuit", "")

func mustComponent(protocol, value string) ma.Multiaddr {
	c, err := ma.NewComponent(protocol, value)
	if err != nil {
		panic(err)
	}
	return c.Multiaddr()
}

// decodeMultiaddrs reads the entries and returns the addresses they mean, as
// Fields has them. An entry that can't be read is skipped by its length; one
// that is longer than what is left ends the list.
func decodeMultiaddrs(b []byte, self peer.ID) []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n > len(b) {
			break
		}
		entry := b[:n]
		b = b[n:]
		if a, err := ma.NewMultiaddrBytes(entry); err == nil {
			if a, ok := fromEntry(a, self); ok {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// fromEntry strips the node's own id and makes a relay's address a circuit.
func fromEntry(a ma.Multiaddr, self peer.ID) (ma.Multiaddr, bool) {
	a = stripSelf(a, self)
	if len(a) == 0 {
		return nil, false
	}
	if endsInPeer(a) {
		a = a.Encapsulate(circuit)
	}
	return a, true
}

// encodeMultiaddr returns an entry: length and address.
func encodeMultiaddr(a ma.Multiaddr, self peer.ID) ([]byte, error) {
	entry := stripSelf(a, self)
	if last, ok := lastCode(entry); ok && last == ma.P_CIRCUIT {
		entry = entry[:len(entry)-1]
		if !endsInPeer(entry) {
			return nil, fmt.Errorf("%w: %s: a circuit needs its relay's id", ErrAddress, a)
		}
	} else if ok && last == ma.P_P2P {
		return nil, fmt.Errorf("%w: %s: the id of another peer", ErrAddress, a)
	}
	entry = shortenWSS(entry)
	b := entry.Bytes()
	if len(entry) == 0 || len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %q", ErrAddress, a)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...), nil
}

// shortenWSS writes /tls/ws as /wss, which is two bytes shorter and what the
// fleets publish.
func shortenWSS(a ma.Multiaddr) ma.Multiaddr {
	n := len(a)
	if n < 2 || a[n-2].Code() != ma.P_TLS || a[n-1].Code() != ma.P_WS {
		return a
	}
	return a[: n-2 : n-2].Encapsulate(mustComponent("wss", ""))
}

func stripSelf(a ma.Multiaddr, self peer.ID) ma.Multiaddr {
	if n := len(a); n > 0 && a[n-1].Code() == ma.P_P2P && string(a[n-1].RawValue()) == string(self) {
		return a[:n-1]
	}
	return a
}

func endsInPeer(a ma.Multiaddr) bool {
	code, ok := lastCode(a)
	return ok && code == ma.P_P2P
}

func lastCode(a ma.Multiaddr) (code int, ok bool) {
	if len(a) == 0 {
		return 0, false
	}
	return a[len(a)-1].Code(), true
}
