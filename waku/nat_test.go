package waku_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// open is a network of the internet, without anybody to begin with.
var openNet = waku.Network{Name: "open", Cluster: town.Cluster}

// natWorld is an in-memory internet with NATs.
type natWorld struct {
	t   *testing.T
	net *p2ptest.Network
}

func newNATWorld(t *testing.T) *natWorld {
	return &natWorld{t, p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond})}
}

// wall refuses direct connections, as NATs do that can't be punched.
type wall struct {
	mu   sync.Mutex
	from map[peer.ID]bool
}

func (w *wall) against(p peer.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.from[p]
}

func (w *wall) InterceptPeerDial(peer.ID) bool { return true }
func (w *wall) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool {
	return !w.against(p) || strings.Contains(a.String(), "p2p-circuit")
}
func (w *wall) InterceptAccept(network.ConnMultiaddrs) bool { return true }
func (w *wall) InterceptSecured(_ network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	return !w.against(p) || strings.Contains(c.RemoteMultiaddr().String()+c.LocalMultiaddr().String(), "p2p-circuit")
}
func (w *wall) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

var _ connmgr.ConnectionGater = (*wall)(nil)

// host is one that speaks circuits; nobody asks AutoNAT.
func (w *natWorld) host(c p2ptest.HostConfig) host.Host {
	w.t.Helper()
	h, err := libp2p.New(append(w.net.Options(c), libp2p.EnableRelay(), libp2p.NoSecurity, libp2p.ForceReachabilityPublic())...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, h.Close()) })
	return h
}

// setReachability says what AutoNAT would.
func setReachability(t *testing.T, h host.Host, r network.Reachability) {
	t.Helper()
	e, err := h.EventBus().Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	require.NoError(t, err)
	require.NoError(t, e.Emit(event.EvtLocalReachabilityChanged{Reachability: r}))
	require.NoError(t, e.Close())
}

// member is a node behind a NAT, or not, that has joined town.
func (w *natWorld) member(h host.Host, r network.Reachability, opts ...waku.Option) (*waku.Node, *waku.Membership, *happenings) {
	w.t.Helper()
	setReachability(w.t, h, r)
	n, err := waku.New(w.t.Context(), append([]waku.Option{waku.NATOn(h), waku.WithNetwork(openNet)}, opts...)...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, n.Close()) })
	log := watch(n)
	m, err := n.Join(w.t.Context(), waku.Community{Shard: town})
	require.NoError(w.t, err)
	return n, m, log
}

// relayer is a public node that relays town.
func (w *natWorld) relayer(opts ...waku.Option) *waku.Node {
	w.t.Helper()
	return w.relayerOn(w.host(p2ptest.HostConfig{}), opts...)
}

func (w *natWorld) relayerOn(h host.Host, opts ...waku.Option) *waku.Node {
	w.t.Helper()
	n, err := waku.New(w.t.Context(), append([]waku.Option{waku.WithHost(h), waku.WithNetwork(openNet)}, opts...)...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, n.Close()) })
	_, err = n.Join(w.t.Context(), waku.Community{Shard: town})
	require.NoError(w.t, err)
	return n
}

// happenings are a node's events so far.
type happenings struct {
	mu  sync.Mutex
	all []waku.Event
}

func watch(n *waku.Node) *happenings {
	h := new(happenings)
	events := n.Events(context.Background())
	go func() {
		for e := range events {
			h.mu.Lock()
			h.all = append(h.all, e)
			h.mu.Unlock()
		}
	}()
	return h
}

func (h *happenings) of(kind waku.EventKind) (out []waku.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.all {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// Two members behind NATs, and one relayer that both know: they find each other by the
// shard alone, and what they say goes over a direct connection.
func TestNATMembersMeet(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newNATWorld(t)
		r := w.relayer()
		static := waku.WithStaticPeers(r.Addrs()...)
		a, am, alog := w.member(w.host(p2ptest.HostConfig{}), network.ReachabilityPrivate, static)
		b, bm, blog := w.member(w.host(p2ptest.HostConfig{}), network.ReachabilityPrivate, static)
		time.Sleep(20 * time.Second)
		synctest.Wait()

		require.NotEmpty(t, blog.of(waku.CircuitReserved))
		require.NotEmpty(t, blog.of(waku.RendezvousRegistered))
		require.NotEmpty(t, append(alog.of(waku.PeersFound), blog.of(waku.PeersFound)...))
		require.Len(t, append(alog.of(waku.HolePunched), blog.of(waku.HolePunched)...), 2)
		require.Empty(t, append(alog.of(waku.HolePunchFailed), blog.of(waku.HolePunchFailed)...))
		require.Equal(t, network.Connected, waku.HostOf(a).Network().Connectedness(b.PeerID()))
		for _, c := range waku.HostOf(a).Network().ConnsToPeer(b.PeerID()) {
			require.False(t, c.Stat().Limited, "the circuit is left: %s", c.RemoteMultiaddr())
		}
		require.Zero(t, waku.MeetingsOf(a)+waku.MeetingsOf(b))

		// Where it stands is good for this connection alone.
		for _, at := range waku.WhereKnown(a, b.PeerID()) {
			require.Contains(t, at.String(), "/p2p-circuit")
		}

		// The relayer is gone, and the chat goes on.
		used := r.Health().Helper.Circuits.Bytes
		require.Positive(t, used)
		require.NoError(t, r.Close())
		time.Sleep(30 * time.Second)
		messages := subscribe(t, bm)
		_, err := am.Send(t.Context(), lobby, []byte("hello"))
		require.NoError(t, err)
		require.Equal(t, "hello", string(next(t, messages).Message.Payload))
		h := a.Health()
		require.Equal(t, waku.ReachabilityPrivate, h.NAT.Reachability)
		require.Contains(t, h.Summary, "others can't reach this node")
	})
}
