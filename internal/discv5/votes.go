package discv5

import (
	"net"
	"net/netip"
	"time"
)

// voteAge is how old votes get in the library, and a little more.
const voteAge = 6 * time.Minute

// addresses are what votes are about.
type addresses struct {
	ip4, ip6 netip.Addr
	udp      uint16
}

func (a addresses) or(b addresses) addresses {
	if !a.ip4.IsValid() {
		a.ip4 = b.ip4
	}
	if !a.ip6.IsValid() {
		a.ip6 = b.ip6
	}
	if a.udp == 0 {
		a.udp = b.udp
	}
	return a
}

// hold makes what votes have brought outlast them, unless they may be from
// before a change; s.mu is held.
func (s *self) hold() {
	if s.fixed || time.Now().Before(s.holdFrom) {
		return
	}
	f := s.record.Fields()
	if ip := f.IP4; ip.IsValid() && ip != s.fallback.ip4 {
		s.voted.ip4, s.fallback.ip4 = ip, ip
		s.node.SetFallbackIP(ip.AsSlice())
	}
	if ip := f.IP6; ip.IsValid() && ip != s.fallback.ip6 {
		s.voted.ip6, s.fallback.ip6 = ip, ip
		s.node.SetFallbackIP(ip.AsSlice())
	}
	// The port to fall back to is that of both families.
	if f.UDP != 0 && f.UDP != s.fallback.udp && !f.IP6.IsValid() {
		s.voted.udp, s.fallback.udp = f.UDP, f.UDP
		s.node.SetFallbackUDP(int(f.UDP))
		s.refresh()
	}
}

// forgetVotes lets go of what votes have brought; the library keeps the votes
// themselves for five minutes at most.
func (s *self) forgetVotes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fixed {
		return
	}
	s.refresh()
	s.holdFrom = time.Now().Add(voteAge)
	s.voted, s.fallback = addresses{}, s.given
	ip4, ip6 := net.IPv4zero, net.IPv6unspecified
	if s.given.ip4.IsValid() {
		ip4 = s.given.ip4.AsSlice()
	}
	if s.given.ip6.IsValid() {
		ip6 = s.given.ip6.AsSlice()
	}
	s.node.SetFallbackIP(ip4)
	s.node.SetFallbackIP(ip6)
	s.node.SetFallbackUDP(int(s.given.udp))
	s.refresh()
}
