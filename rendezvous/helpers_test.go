package rendezvous_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/rendezvous"
)

const ns = "rs/16/128"

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

func lengthed(num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

func varint(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

// idOf is who signs record n.
func idOf(n int) peer.ID {
	id, err := peer.IDFromPrivateKey(p2ptest.Key(n))
	if err != nil {
		panic(err)
	}
	return id
}

func addrs(s ...string) (out []ma.Multiaddr) {
	for _, a := range s {
		out = append(out, ma.StringCast(a))
	}
	return out
}

// signed are records by their number. Signing takes its time.
var signed sync.Map

// record is the n-th peer's.
func record(n int) []byte {
	if r, ok := signed.Load(n); ok {
		return r.([]byte)
	}
	r, err := rendezvous.Seal(p2ptest.Key(n), addrs(fmt.Sprintf("/ip4/192.0.%d.%d/tcp/30303", n>>8&255, n&255)))
	if err != nil {
		panic(err)
	}
	signed.Store(n, r)
	return r
}

// envelope is signed peer record n with a payload of its own making.
func envelope(n int, domain string, typ, payload []byte) []byte {
	b := lengthed(1, []byte(domain))[1:]
	b = append(b, lengthed(1, typ)[1:]...)
	b = append(b, lengthed(1, payload)[1:]...)
	sig, err := p2ptest.Key(n).Sign(b)
	if err != nil {
		panic(err)
	}
	key := func() []byte {
		raw, err := p2ptest.Key(n).GetPublic().Raw()
		if err != nil {
			panic(err)
		}
		return append(varint(1, uint64(p2ptest.Key(n).Type())), lengthed(2, raw)...)
	}()
	out := append(lengthed(1, key), lengthed(2, typ)...)
	return append(append(out, lengthed(3, payload)...), lengthed(5, sig)...)
}

// payload is a peer record.
func payload(id peer.ID, seq uint64, addrs ...[]byte) []byte {
	b := append(lengthed(1, []byte(id)), varint(2, seq)...)
	for _, a := range addrs {
		b = append(b, lengthed(3, lengthed(1, a))...)
	}
	return b
}

var recordType = []byte{3, 1}

// registerRequest words a request to register.
func registerRequest(ns string, record []byte, ttl uint64) []byte {
	return rendezvous.AppendRequest(rendezvous.Request{Kind: 0, Reg: rendezvous.Register{NS: []byte(ns), Record: record, TTL: ttl}})
}

// discoverRequest words a request to discover.
func discoverRequest(ns string, limit uint64, cookie []byte) []byte {
	return rendezvous.AppendRequest(rendezvous.Request{Kind: 3, Reg: rendezvous.Register{NS: []byte(ns)}, Limit: limit, Cookie: cookie})
}

// couple is a client and a server host in a bubble, connected.
func couple(t *testing.T, f func(t *testing.T, client, server host.Host)) {
	t.Helper()
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		p2ptest.Line(t, hosts)
		f(t, hosts[0], hosts[1])
	})
}

// serve serves on h until the test ends.
func serve(t testing.TB, h host.Host, cfg rendezvous.PointConfig) *rendezvous.Point {
	p := rendezvous.NewPoint(h, cfg)
	t.Cleanup(func() {
		p.Close()
		require.Empty(t, p.Check())
	})
	return p
}

// free has no limits of pace.
var free = rendezvous.PointConfig{Rate: -1, AddressRate: -1}

// answerBy lets h answer with bytes of its own making. Nil: with none.
func answerBy(h host.Host, f func(request []byte) []byte) {
	h.SetStreamHandler(rendezvous.ID, func(s network.Stream) {
		b, err := wire.ReadFrame(s, 1<<20)
		if err != nil {
			s.Reset()
			return
		}
		if a := f(b); a != nil {
			wire.WriteFrame(s, a)
		}
		s.Close()
	})
}

// ask sends a request as it stands and returns the response as it stands.
func ask(t testing.TB, from, to host.Host, request []byte) ([]byte, error) {
	t.Helper()
	s, err := p2ptest.OpenStream(t.Context(), from, to.ID(), rendezvous.ID)
	require.NoError(t, err)
	defer s.Reset()
	require.NoError(t, wire.WriteFrame(s, request))
	b, err := wire.ReadFrame(s, 4<<20)
	if err != nil {
		return nil, err
	}
	if _, err = s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("after the response: %w", err)
	}
	return b, nil
}

// status is that of an answer of ours.
func status(t testing.TB, b []byte) (rendezvous.StatusCode, string) {
	t.Helper()
	for _, kind := range []uint32{1, 4} {
		if r, err := rendezvous.ResponseOf(b, kind, 1000); err == nil {
			return r.Status, r.Text
		}
	}
	require.Fail(t, "no response", "%x", b)
	return 0, ""
}

// client is one that is asked in seconds.
func client(h host.Host) *rendezvous.Client {
	return rendezvous.NewClient(h, rendezvous.ClientConfig{})
}

func ids(peers []rendezvous.Peer) (out []peer.ID) {
	for _, p := range peers {
		out = append(out, p.Info.ID)
	}
	return out
}

// faithful registers with points that only exist in a test.
type faithful struct {
	mu       sync.Mutex
	calls    []call
	register func(p peer.ID, ns string) (time.Duration, error)
}

type call struct {
	at    time.Duration
	point peer.ID
	ns    string
	addrs int
	gone  bool
}

var began time.Time

func (f *faithful) Register(ctx context.Context, p peer.ID, ns string, addrs []ma.Multiaddr, ttl time.Duration) (time.Duration, error) {
	f.mu.Lock()
	f.calls = append(f.calls, call{time.Since(began), p, ns, len(addrs), false})
	f.mu.Unlock()
	if f.register == nil {
		return ttl, ctx.Err()
	}
	return f.register(p, ns)
}

func (f *faithful) Unregister(_ context.Context, p peer.ID, ns string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call{time.Since(began), p, ns, 0, true})
	return nil
}

// take returns the calls since the last time.
func (f *faithful) take() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.calls
	f.calls = nil
	return c
}
