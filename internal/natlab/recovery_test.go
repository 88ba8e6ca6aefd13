//go:build nat && linux

package natlab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pair is two members who talk directly, and two relayers whom both know.
type pair struct {
	*community
	first, second *relayer
	ana, bea      *member
}

func newPair(t *testing.T, over transport) *pair {
	t.Helper()
	p := &pair{community: newCommunity(t, over)}
	p.first = p.relayer(t, p.server(t, "first", "11.0.0.2"), "11.0.0.2")
	p.second = p.relayer(t, p.server(t, "second", "11.0.0.3"), "11.0.0.3")
	p.ana = p.member(t, p.home(t, "ana", portRestricted, "11.1.0.1", "192.168.1.2"), "ana", p.first, p.second)
	p.bea = p.member(t, p.home(t, "bea", portRestricted, "11.2.0.1", "10.0.0.2"), "bea", p.first, p.second)
	p.ana.await(t, 0, time.Minute, "a message over the direct connection", directly(p.bea))
	p.bea.await(t, 0, time.Minute, "a message over the direct connection", directly(p.ana))
	for _, m := range []*member{p.ana, p.bea} {
		for _, r := range []*relayer{p.first, p.second} {
			m.await(t, 0, time.Minute, "a registration", registeredWith(r))
			m.await(t, 0, time.Minute, "a circuit", reservedAt(r))
		}
	}
	return p
}

// registeredWith and reservedAt fit the moments in which a member begins to be known, and
// to be reached, through a relayer.
func registeredWith(r *relayer) func(moment) bool {
	return func(m moment) bool { return m.What == "registered for rendezvous" && m.Peer == r.id }
}

func reservedAt(r *relayer) func(moment) bool {
	return func(m moment) bool { return m.What == "circuit reserved" && m.Peer == r.id }
}

// visit starts somebody new in a third home, who must find ana and talk directly to her.
func (p *pair) visit(t *testing.T, relayers ...*relayer) time.Duration {
	t.Helper()
	began := time.Now()
	cai := p.member(t, p.home(t, "cai", portRestricted, "11.3.0.1", "192.168.1.2"), "cai", relayers...)
	m := cai.await(t, 0, time.Minute, "ana, directly", directly(p.ana))
	p.ana.await(t, 0, time.Minute, "cai, directly", directly(cai))
	took := m.came.Sub(began)
	t.Logf("%s: somebody new talks directly to her after %.1f s", t.Name(), took.Seconds())
	return took
}

// resumed waits until both hear each other directly again, from marks on.
func (p *pair) resumed(t *testing.T, why string, since time.Time, anaMark, beaMark int) {
	t.Helper()
	one := p.ana.await(t, anaMark, 2*time.Minute, "bea, directly, after "+why, directly(p.bea))
	other := p.bea.await(t, beaMark, 2*time.Minute, "ana, directly, after "+why, directly(p.ana))
	last := one.came
	if other.came.After(last) {
		last = other.came
	}
	t.Logf("%s: they talk directly again %.1f s after %s", t.Name(), last.Sub(since).Seconds(), why)
}

func overBoth(t *testing.T, test func(t *testing.T, p *pair)) {
	t.Parallel()
	for _, over := range transports {
		t.Run(string(over), func(t *testing.T) {
			t.Parallel()
			test(t, newPair(t, over))
		})
	}
}

// atOnce is in what time somebody is found at another relayer when one has died
// (scorecard E5).
const atOnce = 10 * time.Second

// A relayer dies: who was known there is found at the other, by whoever comes.
func TestRelayerDies(t *testing.T) {
	overBoth(t, func(t *testing.T, p *pair) {
		killed := time.Now()
		p.first.kill()
		if took := p.visit(t, p.second); *long {
			assert.LessOrEqual(t, took, atOnce)
		}
		lost := p.ana.await(t, 0, 2*time.Minute, "the end of the circuit", func(m moment) bool { return m.What == "circuit lost" && m.Peer == p.first.id })
		t.Logf("%s: the dead relayer is noticed after %.1f s", t.Name(), lost.came.Sub(killed).Seconds())
	})
}

// A rendezvous point restarts and has forgotten everybody: they register again, and are
// found there.
func TestPointRestarts(t *testing.T) {
	overBoth(t, func(t *testing.T, p *pair) {
		p.first.kill()
		mark := p.ana.mark()
		p.first.start(t)
		began := time.Now()
		known := p.ana.await(t, mark, 2*time.Minute, "the registration", registeredWith(p.first))
		reached := p.ana.await(t, mark, 2*time.Minute, "the circuit", reservedAt(p.first))
		t.Logf("%s: registered again after %.1f s, with a circuit after %.1f s",
			t.Name(), known.came.Sub(began).Seconds(), reached.came.Sub(began).Seconds())
		p.visit(t, p.first)
	})
}

// A router forgets its mappings: the talk goes on, and she can be reached.
func TestMappingsExpire(t *testing.T) {
	overBoth(t, func(t *testing.T, p *pair) {
		anaMark, beaMark := p.ana.mark(), p.bea.mark()
		began := time.Now()
		p.ana.home.forget(t)
		p.resumed(t, "the router forgot", began, anaMark, beaMark)
		p.visit(t, p.first, p.second)
	})
}

// The provider gives the home another address.
func TestAddressChanges(t *testing.T) {
	overBoth(t, func(t *testing.T, p *pair) {
		began := time.Now()
		p.ana.home.move(t, "11.1.0.9")
		anaMark, beaMark := p.ana.mark(), p.bea.mark()
		p.resumed(t, "the address changed", began, anaMark, beaMark)
		p.visit(t, p.first, p.second)
	})
}

// A laptop sleeps, long enough for everybody to have given it up, and its router too.
// The process is stopped: unlike in a real sleep its monotonic clock goes on.
func TestSleep(t *testing.T) {
	overBoth(t, func(t *testing.T, p *pair) {
		asleep := 100 * time.Second
		if *long {
			asleep = 10 * time.Minute
		}
		p.ana.sleep()
		time.Sleep(asleep)
		p.ana.home.forget(t)
		require.NotEmpty(t, p.bea.since(0, func(m moment) bool { return m.What == "peer disconnected" && m.Peer == p.ana.id }), "bea has given her up")
		anaMark, beaMark := p.ana.mark(), p.bea.mark()
		began := time.Now()
		p.ana.wake()
		p.resumed(t, "she woke", began, anaMark, beaMark)
		p.visit(t, p.first, p.second)
	})
}
