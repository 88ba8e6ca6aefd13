package peers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/peers"
)

// full returns a manager that knows 2,000 peers, with so many needs, and is
// connected to some of them.
func full(b testing.TB, needs, connected int) (*peers.Manager, time.Time) {
	c := config(1)
	c.MaxKnown = 4000
	m := peers.New(c)
	for n := 1; n <= 2000; n++ {
		s := told(n, []peers.Source{peers.DNS, peers.Discv5, peers.Exchange}[n%3], public(n))
		s.From, s.Shards = fmt.Sprint(n%30), carries(uint16(n%needs), uint16(n*7%needs))
		m.Found(start, s)
	}
	require.Greater(b, m.Stats(start).Known, 1999)
	var want []peers.Need
	for i := range needs {
		want = append(want, relays(uint16(i), 3, 6, 3))
	}
	m.Want(start, want)
	now := start
	for n := 1; n <= connected; n++ {
		now = now.Add(time.Second)
		m.Connected(now, id(n), public(n), n%2 == 0)
		m.Proven(now, id(n), carries(uint16(n%needs), uint16(n*7%needs)), peers.Relay)
	}
	return m, now
}

// Plan when nothing is missing, when much is and there is nobody to dial now, and
// when somebody is dialled.
func BenchmarkPlan(b *testing.B) {
	for _, needs := range []int{1, 6, 100} {
		b.Run(fmt.Sprintf("met/needs=%d", needs), func(b *testing.B) {
			m, now := full(b, needs, 100)
			var want []peers.Need
			for i := range needs {
				want = append(want, relays(uint16(i), 0, 0, 0))
			}
			m.Want(now, want)
			for b.Loop() {
				m.Plan(now)
			}
		})
		b.Run(fmt.Sprintf("waiting/needs=%d", needs), func(b *testing.B) {
			m, now := full(b, needs, 0)
			for b.Loop() {
				m.Plan(now)
			}
		})
		b.Run(fmt.Sprintf("dialling/needs=%d", needs), func(b *testing.B) {
			m, now := full(b, needs, 0)
			for b.Loop() {
				now = now.Add(time.Second)
				for _, d := range m.Plan(now).Dial {
					m.Connected(now, d.ID, d.Addrs[0], false)
					m.Lost(now, d.ID)
				}
			}
		})
	}
	b.Run("trimming", func(b *testing.B) {
		m, now := full(b, 6, 260)
		n := 10_000
		for b.Loop() {
			now = now.Add(time.Second)
			n++
			join(m, now, n, public(20_000+n), true)
			obey(m, now)
		}
	})
}

func BenchmarkFound(b *testing.B) {
	m, now := full(b, 6, 0)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		m.Found(now, told(10_000+n, peers.Discv5, public(n)))
	}
}

func BenchmarkSnapshot(b *testing.B) {
	m, now := full(b, 6, 250)
	for b.Loop() {
		m.Snapshot(now)
	}
}
