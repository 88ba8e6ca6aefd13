package discv5

import (
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"math"
	"math/bits"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
	libp2p "github.com/libp2p/go-libp2p/core/crypto"

	"github.com/status-im/shoal/internal/enr"
)

// self is our own record. The library wants to sign it, and to change its
// endpoint by itself, from any goroutine and without asking; a record that got
// longer than 300 bytes that way would end the process. So what is put into it
// leaves room for the longest endpoint that votes can bring, and is put there
// in an order in which no step is longer than the record before or after.
type self struct {
	key     libp2p.PrivKey
	node    *enode.LocalNode
	cleanup func()
	fixed   bool
	socket6 bool
	port    uint16
	// changed is signalled when votes have changed the record.
	changed chan struct{}
	step    func() // tests: called between steps of a change

	mu       sync.Mutex
	entries  map[string]rlp.RawValue // all but the endpoint
	at       *enode.Node             // what record was made of
	record   *enr.Record
	reported *enr.Record
	distrust bool // votes for IPv6 made no sense
	// given is what set was told last, voted what votes made of it: the library
	// forgets votes within minutes, and would go to and fro.
	given, voted addresses
	fallback     addresses // what the library falls back to
	holdFrom     time.Time
}

func newSelf(cfg Config, key *ecdsa.PrivateKey, local netip.AddrPort) (*self, error) {
	s := &self{
		key: cfg.Key, fixed: cfg.Fixed, port: local.Port(),
		socket6: local.Addr().Is6(),
		changed: make(chan struct{}, 1),
		entries: make(map[string]rlp.RawValue),
		step:    func() {},
	}
	var err error
	if s.node, s.cleanup, err = newLocalNode(key, cfg.Fields.Seq); err != nil {
		return nil, err
	}
	if _, err := s.set(cfg.Fields); err != nil {
		s.cleanup()
		return nil, err
	}
	return s, nil
}

func (s *self) close() { s.cleanup() }

// set puts f into the record.
func (s *self) set(f enr.Fields) (*enr.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.UDP == 0 {
		f.UDP = f.UDP6
	}
	if f.UDP == 0 {
		f.UDP = s.port
	}
	if s.fixed && !f.IP4.IsValid() && !f.IP6.IsValid() {
		f.UDP = 0 // a port of nowhere
	}
	f.UDP6 = 0
	given, voted := addresses{f.IP4, f.IP6, f.UDP}, s.voted
	if given != s.given {
		voted = addresses{}
	}
	now := voted.or(given)
	f.IP4, f.IP6, f.UDP = now.ip4, now.ip6, now.udp
	f, votes6, err := s.fit(f)
	if err != nil {
		return nil, err
	}
	entries, err := s.entriesOf(f)
	if err != nil {
		return nil, err
	}
	if given != s.given && s.given != (addresses{}) {
		s.holdFrom = time.Now().Add(voteAge)
	}
	// What gets shorter first, what gets longer last.
	for key := range s.entries {
		if entries[key] == nil {
			s.node.Delete(gethenr.WithEntry(key, rlp.RawValue(nil)))
			s.step()
		}
	}
	s.put(entries, func(was, is int) bool { return is <= was })
	s.setEndpoint(f, votes6)
	s.put(entries, func(was, is int) bool { return is > was })
	s.entries, s.given, s.voted = entries, given, voted
	s.fallback = addresses{f.IP4, f.IP6, f.UDP}
	s.refresh()
	s.reported = s.record
	return s.record, nil
}

func (s *self) put(entries map[string]rlp.RawValue, when func(was, is int) bool) {
	for key, value := range entries {
		if old := s.entries[key]; when(len(old), len(value)) && !bytes.Equal(old, value) {
			s.node.Set(gethenr.WithEntry(key, value))
			s.step()
		}
	}
}

// fit returns what of f fits into a record however votes change it, and whether
// there is room for an IPv6 address that only votes know. That makes no way for
// itself: it may never come.
func (s *self) fit(f enr.Fields) (fit enr.Fields, votes6 bool, err error) {
	if !s.fixed && s.socket6 && !s.distrust {
		if kept, err := s.kept(f, true); err == nil && same(kept, f) {
			return f, true, nil
		}
	}
	for {
		kept, err := s.kept(f, false)
		if err != nil {
			return enr.Fields{}, false, err
		}
		if same(kept, f) {
			return f, false, nil
		}
		f = kept
	}
}

// kept returns what is left of f in the longest record that it may become.
func (s *self) kept(f enr.Fields, votes6 bool) (enr.Fields, error) {
	longest := f
	// Numbers grow, but not in length.
	longest.Seq = 1<<((bits.Len64(s.node.Seq())+7)/8*8) - 1
	longest.UDP = math.MaxUint16
	if !s.fixed {
		longest.UDP6 = math.MaxUint16 // the library adds it when votes move the other one
		if !f.IP4.IsValid() {
			longest.IP4 = netip.IPv4Unspecified()
		}
		if votes6 && !f.IP6.IsValid() {
			longest.IP6 = netip.IPv6Unspecified()
		}
	}
	r, err := enr.Build(s.key, longest)
	if err != nil {
		return f, err
	}
	left := r.Fields()
	f.Multiaddrs = f.Multiaddrs[:len(left.Multiaddrs)]
	if votes6 && !left.IP6.IsValid() {
		return f, enr.ErrTooLarge
	}
	if !left.IP6.IsValid() {
		f.IP6, f.TCP6 = netip.Addr{}, 0
	}
	return f, nil
}

func same(a, b enr.Fields) bool {
	return len(a.Multiaddrs) == len(b.Multiaddrs) && a.IP6 == b.IP6 && a.TCP6 == b.TCP6
}

// entries returns the record's keys and values but for those that the library
// keeps: who we are and where discovery listens.
func (s *self) entriesOf(f enr.Fields) (map[string]rlp.RawValue, error) {
	r, err := enr.Build(s.key, f)
	if err != nil {
		return nil, err
	}
	var raw gethenr.Record
	if err := rlp.DecodeBytes(r.Bytes(), &raw); err != nil {
		return nil, fmt.Errorf("discv5: own record: %w", err)
	}
	entries := make(map[string]rlp.RawValue)
	pairs := raw.AppendElements(nil)[1:]
	for i := 0; i < len(pairs); i += 2 {
		switch key := pairs[i].(string); key {
		case "id", "secp256k1", "ip", "ip6", "udp", "udp6":
		default:
			entries[key] = pairs[i+1].(rlp.RawValue)
		}
	}
	return entries, nil
}

// setEndpoint tells the library the endpoint. An address that is "unspecified"
// is none; a static one stops votes.
func (s *self) setEndpoint(f enr.Fields, votes6 bool) {
	ip4, ip6 := net.IPv4zero, net.IPv6unspecified
	if f.IP4.IsValid() {
		ip4 = f.IP4.AsSlice()
	}
	if f.IP6.IsValid() {
		ip6 = f.IP6.AsSlice()
	}
	set4 := func() {
		if s.fixed {
			s.node.SetStaticIP(ip4)
		} else {
			s.node.SetFallbackIP(ip4)
		}
		s.step()
	}
	set6 := func() {
		if votes6 {
			s.node.SetFallbackIP(ip6)
			s.node.SetStaticIP(nil) // of IPv6, since nil isn't an IPv4 address
		} else {
			s.node.SetStaticIP(ip6)
		}
		s.step()
	}
	if f.IP6.IsValid() {
		set4()
		set6()
	} else { // the shorter record first
		set6()
		set4()
	}
	s.node.SetFallbackUDP(int(f.UDP))
	s.step()
}

// refresh makes record what the library has signed last; s.mu is held.
func (s *self) refresh() {
	node := s.node.Node()
	if node == s.at {
		return
	}
	r, err := enr.Verified(node.Record())
	if err != nil {
		panic(err) // a record that the library has signed
	}
	s.at, s.record = node, r
	if !s.distrust && r.Fields().IP6.Is4In6() {
		// Sloppy peers. No reader takes it.
		s.distrust = true
		s.node.SetStaticIP(net.IPv6unspecified)
		s.refresh()
		return
	}
	s.hold()
}

func (s *self) current() *enr.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	return s.record
}

// look notices votes. It is called after every packet, so it costs nothing when
// there is nothing to see.
func (s *self) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refresh(); s.record != s.reported {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

// unreported returns the record if neither it nor set has returned it yet.
func (s *self) unreported() *enr.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	if s.record == s.reported {
		return nil
	}
	s.reported = s.record
	return s.record
}
