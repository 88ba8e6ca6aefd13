package p2ptest

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
)

// connectTimeout bounds a Connect, for tests in wall time.
const connectTimeout = 30 * time.Second

// AddrInfo returns where h is found.
func AddrInfo(h host.Host) peer.AddrInfo {
	return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

// Connect lets a dial b and returns when each knows all of the other's
// protocols, or has hung up.
func Connect(t testing.TB, a, b host.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	require.NoError(t, a.Connect(ctx, AddrInfo(b)))
	identified(t, a, b)
	identified(t, b, a)
}

// identified waits for what h learns about other. The first identify isn't
// always enough: a handler set just before is sent by a push afterwards.
func identified(t testing.TB, h, other host.Host) {
	t.Helper()
	Eventually(t, func() bool {
		if h.Network().Connectedness(other.ID()) != network.Connected {
			return true
		}
		all := other.Mux().Protocols()
		known, err := h.Peerstore().SupportsProtocols(other.ID(), all...)
		return err == nil && len(known) == len(all)
	}, "%s doesn't know what %s speaks", h.ID(), other.ID())
}

// Disconnect closes all connections between a and b, and waits until neither
// has one.
func Disconnect(t testing.TB, a, b host.Host) {
	t.Helper()
	require.NoError(t, a.Network().ClosePeer(b.ID()))
	require.NoError(t, b.Network().ClosePeer(a.ID()))
	Eventually(t, func() bool {
		return a.Network().Connectedness(b.ID()) != network.Connected &&
			b.Network().Connectedness(a.ID()) != network.Connected
	}, "still connected")
}

// Line connects each host with the next one.
func Line(t testing.TB, hosts []host.Host) {
	t.Helper()
	for i := 1; i < len(hosts); i++ {
		Connect(t, hosts[i-1], hosts[i])
	}
}

// Ring is Line with the ends joined.
func Ring(t testing.TB, hosts []host.Host) {
	t.Helper()
	Line(t, hosts)
	if len(hosts) > 2 {
		Connect(t, hosts[len(hosts)-1], hosts[0])
	}
}

// Star connects every host with the first; the others dial.
func Star(t testing.TB, hosts []host.Host) {
	t.Helper()
	for i := 1; i < len(hosts); i++ {
		Connect(t, hosts[i], hosts[0])
	}
}

// Full connects every host with every other.
func Full(t testing.TB, hosts []host.Host) {
	t.Helper()
	for i := range hosts {
		for j := range i {
			Connect(t, hosts[i], hosts[j])
		}
	}
}

// Degree connects each of n hosts with d others, the i-th with those 1, 2, 4, …
// places further on: connected, of small diameter, the same in every run.
func Degree(t testing.TB, hosts []host.Host, d int) {
	t.Helper()
	n := len(hosts)
	for i := range hosts {
		for k, step := 0, 1; k < (d+1)/2 && step < n; k, step = k+1, step*2 {
			Connect(t, hosts[i], hosts[(i+step)%n])
		}
	}
}

// eventuallyTimeout is long because it only bounds a failing test.
const eventuallyTimeout = time.Minute

// Eventually polls until cond holds and fails the test when it never does. In
// a bubble the waiting takes no time; elsewhere use it where no event can be
// waited for.
func Eventually(t testing.TB, cond func() bool, msg string, args ...any) {
	t.Helper()
	start := time.Now()
	for wait := time.Millisecond; !cond(); wait = min(2*wait, 50*time.Millisecond) {
		if time.Since(start) > eventuallyTimeout {
			t.Fatalf("not within %v: "+msg, append([]any{eventuallyTimeout}, args...)...)
		}
		time.Sleep(wait)
	}
}
