package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// siege is a crowd of honest nodes who know few of each other, and silent ones who know
// everybody and came first.
type siege struct {
	t      *testing.T
	honest []host.Host
	rs     []*relay.Relay
	bad    map[peer.ID]bool
	said   int
}

func newSiege(t *testing.T, honest, silent int, lenient bool) *siege {
	net := p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond})
	s := &siege{t: t, honest: net.Hosts(honest), bad: map[peer.ID]bool{}}
	s.rs = relays(t, s.honest, relay.Config{})
	for _, r := range s.rs {
		r.SetLenient(lenient)
		subscribe(t, r, shard)
	}
	for _, h := range net.Hosts(silent) {
		plainRouter(t, h, true)
		s.bad[h.ID()] = true
		for _, victim := range s.honest {
			p2ptest.Connect(t, h, victim)
		}
	}
	settle()
	p2ptest.Degree(t, s.honest, 4)
	settle()
	return s
}

// talk lets them speak for so long, five times a second.
func (s *siege) talk(d time.Duration) {
	for range int(d / (200 * time.Millisecond)) {
		r := s.rs[s.said%len(s.rs)]
		publish(s.t, r, shard, newMessage(fmt.Sprint(s.said, strings.Repeat("x", 2000))))
		s.said++
		time.Sleep(200 * time.Millisecond)
	}
}

// held is the silent ones' share of the honest ones' mesh links.
func (s *siege) held() float64 {
	links, theirs := 0, 0
	for _, r := range s.rs {
		for _, p := range r.Mesh(shard) {
			if links++; s.bad[p] {
				theirs++
			}
		}
	}
	return float64(theirs) / float64(max(1, links))
}

// Three quarters of everybody's peers are silent. Who is left with one peer that works
// and leeches beside it tells them apart all the same.
func TestSiege(t *testing.T) {
	simulation(t)
	p2ptest.Bubble(t, func(t *testing.T) {
		s := newSiege(t, 8, 12, false)
		s.talk(50 * time.Second)
		require.LessOrEqual(t, s.held(), 0.1)
		s.talk(50 * time.Second) // in which refused places may be asked for again
		for i, r := range s.rs {
			require.NotEmpty(t, r.Mesh(shard), "node %d", i)
			for p := range s.bad {
				require.True(t, r.Leech(p))
			}
			for _, h := range s.honest {
				require.False(t, r.Leech(h.ID()), "node %d", i)
				require.GreaterOrEqual(t, r.Score(h.ID()), 0.0, "node %d", i)
			}
		}
	})
	p2ptest.Bubble(t, func(t *testing.T) { // the control
		s := newSiege(t, 8, 12, true)
		s.talk(50 * time.Second)
		require.Greater(t, s.held(), 0.5)
	})
}

// Those who worked and then fall silent all at once are found out too.
func TestSiegeOfTurncoats(t *testing.T) {
	simulation(t)
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond}).Hosts(24)
		rs := relays(t, hosts, relay.Config{Profile: relay.Default()})
		for _, r := range rs {
			subscribe(t, r, shard)
		}
		p2ptest.Degree(t, hosts, 16)
		settle()
		s := &siege{t: t, honest: hosts[:8], rs: rs, bad: map[peer.ID]bool{}}
		s.talk(30 * time.Second)
		for i, h := range hosts[8:] {
			s.bad[h.ID()] = true
			rs[8+i].SetRules(shard, deaf())
		}
		s.rs = rs[:8]
		s.talk(40 * time.Second)
		// Unjudged it is two thirds. In so small a crowd single nodes keep theirs.
		require.LessOrEqual(t, s.held(), 0.45)
	})
}

// An honest crowd of all kinds, a clock that is wrong, and a newcomer: nobody is taken
// for a leech.
func TestNoSiege(t *testing.T) {
	simulation(t)
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond})
		hosts := net.Hosts(20)
		var rs []*relay.Relay
		profiles := []relay.Profile{relay.Default(), relay.Classic(), relay.LowBandwidth()}
		for i, h := range hosts[:15] {
			r := newRelay(t, h, relay.Config{Profile: profiles[i%3]})
			subscribe(t, r, shard)
			rs = append(rs, r)
		}
		for _, h := range hosts[15:] { // without IDONTWANT
			plainRouter(t, h, false)
		}
		rs[14].SetRules(shard, deaf())
		p2ptest.Degree(t, hosts, 10)
		settle()
		s := &siege{t: t, rs: rs[:14]}
		for range 12 {
			s.talk(5 * time.Second)
			for i, r := range rs[:14] {
				for k, h := range hosts {
					require.False(t, r.Leech(h.ID()), "%d of %d", i, k)
					require.GreaterOrEqual(t, r.Score(h.ID()), 0.0, "%d of %d", i, k)
				}
			}
		}
	})
}

func deaf() relay.Rules {
	return relay.Rules{Screen: func(*message.Received) message.Verdict { return message.Ignore }}
}
