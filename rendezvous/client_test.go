package rendezvous_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/rendezvous"
	"github.com/status-im/shoal/sharding"
)

// What goes over the wire, to the byte.
func TestRequestsWritten(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		var got []byte
		answerBy(h, func(b []byte) []byte {
			got = b
			if b[1] == 0 {
				return unhex("0801 1a020800")
			}
			return unhex("0804 320b 1800 1207 636f6f6b696521")
		})
		granted, err := client(c).Register(t.Context(), h.ID(), ns, addrs("/ip4/1.2.3.4/tcp/1"), 0)
		require.NoError(t, err)
		require.Equal(t, 2*time.Hour, granted, "not said")
		r, err := rendezvous.RequestOf(got)
		require.NoError(t, err)
		require.Equal(t, unhex("0800"), got[:2], "a zero that must be there")
		require.Equal(t, uint64(7200), r.Reg.TTL)
		info, _, wrong := rendezvous.OpenRecord(r.Reg.Record)
		require.Empty(t, wrong)
		require.Equal(t, c.ID(), info.ID)

		// The same addresses are the same record, others aren't.
		for addr, same := range map[string]bool{"/ip4/1.2.3.4/tcp/1": true, "/ip4/1.2.3.4/tcp/2": false} {
			_, err = client(c).Register(t.Context(), h.ID(), ns, addrs(addr), time.Minute)
			require.NoError(t, err)
			again, err := rendezvous.RequestOf(got)
			require.NoError(t, err)
			require.Equal(t, uint64(60), again.Reg.TTL)
			info2, _, _ := rendezvous.OpenRecord(again.Reg.Record)
			require.Equal(t, same, info2.Addrs[0].Equal(info.Addrs[0]))
		}

		a, err := client(c).Discover(t.Context(), h.ID(), ns, 0, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Equal(t, unhex("0803 2a0d 0a09 72732f31362f313238 100c"), got)
		_, err = client(c).Discover(t.Context(), h.ID(), ns, 5000, a.Cookie)
		require.NoError(t, err)
		require.Equal(t, unhex("0803 2a17 0a09 72732f31362f313238 10e807 1a07 636f6f6b696521"), got)
		_, err = client(c).Discover(t.Context(), h.ID(), "rs/16/1", 0, a.Cookie)
		require.NoError(t, err)
		require.Equal(t, unhex("0803 2a0b 0a07 72732f31362f31 100c"), got, "another namespace's cookie stays")
		_, err = client(c).Discover(t.Context(), h.ID(), "", 0, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Equal(t, unhex("0803 2a02 100c"), got)

		answerBy(h, func(b []byte) []byte { got = b; return nil })
		require.NoError(t, client(c).Unregister(t.Context(), h.ID(), ns))
		require.Equal(t, unhex("0802 220b 0a09 72732f31362f313238"), got)
	})
}

// What a point makes up is left out and counted.
func TestForgedAnswers(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		reg := func(ns string, record []byte, ttl uint64) rendezvous.Register {
			return rendezvous.Register{NS: []byte(ns), Record: record, TTL: ttl}
		}
		newer, err := rendezvous.Seal(p2ptest.Key(100), addrs("/ip4/20.0.0.9/tcp/9"))
		older := envelope(100, "libp2p-peer-record", recordType, payload(idOf(100), 1, addrs("/ip4/20.0.0.9/tcp/8")[0].Bytes()))
		require.NoError(t, err)
		self := record(0)
		a := addrs("/ip4/20.0.0.9/tcp/9")[0].Bytes()
		answerBy(h, func([]byte) []byte {
			return rendezvous.AppendResponse(rendezvous.Response{Kind: 4, Regs: []rendezvous.Register{
				reg(ns, older, 7200), reg(ns, newer, 7200), reg(ns, older, 7200),
				reg(ns, record(101), 1<<63),
				reg(ns, self, 7200),
				reg(ns, record(102), 0),
				reg("rs/16/1", record(103), 7200),
				reg(ns, nil, 7200),
				reg(ns, []byte("a record"), 7200),
				reg(ns, envelope(100, "libp2p-peer-record", recordType, payload(idOf(104), 1, a)), 7200),
				reg(ns, envelope(104, "libp2p-relay-rsvp", recordType, payload(idOf(104), 1, a)), 7200),
				reg(ns, envelope(104, "libp2p-peer-record", recordType, payload(idOf(104), 1)), 7200),
				reg(ns, make([]byte, rendezvous.MaxRecord+1), 7200),
				reg(ns, record(105), 7200), reg(ns, record(106), 7200), reg(ns, record(107), 7200),
			}})
		})
		cl := client(c)
		got, err := cl.Discover(t.Context(), h.ID(), ns, 14, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Len(t, got.Peers, 3)
		require.Equal(t, newer, got.Peers[0].Record)
		require.Equal(t, idOf(101), got.Peers[1].Info.ID)
		require.Equal(t, rendezvous.MaxTTL, got.Peers[1].TTL)
		require.Equal(t, idOf(105), got.Peers[2].Info.ID)
		require.Equal(t, map[string]int{
			rendezvous.RefusedDuplicate: 2, rendezvous.RefusedSelf: 1, rendezvous.RefusedExpired: 1,
			rendezvous.RefusedNamespace: 1, rendezvous.RefusedMalformed: 2, rendezvous.RefusedSignature: 2,
			rendezvous.RefusedNoAddress: 1, rendezvous.RefusedTooLarge: 1, rendezvous.RefusedSurplus: 2,
		}, got.Refused)
		require.Equal(t, rendezvous.ClientStats{Answered: 1, Peers: 3, Discarded: 13}, cl.Stats())
	})
}

// A point that doesn't know a namespace has nobody in it; a cookie it has forgotten
// is left out.
func TestUnknown(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		var got []rendezvous.Request
		answerBy(h, func(b []byte) []byte {
			r, _ := rendezvous.RequestOf(b)
			got = append(got, r)
			switch {
			case string(r.Reg.NS) != ns:
				return rendezvous.AppendResponse(rendezvous.Response{Kind: 4, Status: 100})
			case string(r.Cookie) == "old":
				return rendezvous.AppendResponse(rendezvous.Response{Kind: 4, Status: 103})
			}
			return rendezvous.AppendResponse(rendezvous.Response{Kind: 4, Cookie: []byte("old")})
		})
		cl := client(c)
		a, err := cl.Discover(t.Context(), h.ID(), "rs/16/1", 5, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Empty(t, a)
		a, err = cl.Discover(t.Context(), h.ID(), ns, 5, rendezvous.Cookie{})
		require.NoError(t, err)
		_, err = cl.Discover(t.Context(), h.ID(), ns, 5, a.Cookie)
		require.NoError(t, err)
		require.Len(t, got, 4)
		require.Equal(t, "old", string(got[2].Cookie))
		require.Empty(t, got[3].Cookie)
	})
}

func TestClientErrors(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		cl, where := client(c), addrs("/ip4/20.0.0.9/tcp/9")
		for _, bad := range []string{"", strings.Repeat("n", 256), "\xff"} {
			_, err := cl.Register(t.Context(), h.ID(), bad, where, 0)
			require.ErrorIs(t, err, rendezvous.ErrNamespace)
			require.ErrorIs(t, cl.Unregister(t.Context(), h.ID(), bad), rendezvous.ErrNamespace)
		}
		_, err := cl.Register(t.Context(), h.ID(), ns, nil, 0)
		require.ErrorIs(t, err, rendezvous.ErrNoAddress)
		require.Zero(t, cl.Stats())

		_, err = cl.Register(t.Context(), h.ID(), ns, where, 0)
		require.ErrorIs(t, err, rendezvous.ErrUnsupported)
		require.ErrorIs(t, cl.Unregister(t.Context(), h.ID(), ns), rendezvous.ErrUnsupported)

		for name, b := range map[string]string{
			"no answer": "", "another kind": "0804 32021800", "no body": "0801", "a request": "0800 12021800", "nonsense": "ff",
		} {
			answerBy(h, func([]byte) []byte { return unhex(b) })
			_, err = cl.Register(t.Context(), h.ID(), ns, where, 0)
			require.ErrorIs(t, err, rendezvous.ErrMalformed, name)
		}
		for status, is := range map[rendezvous.StatusCode]error{
			100: rendezvous.ErrInvalidNamespace, 101: rendezvous.ErrInvalidRecord, 102: rendezvous.ErrInvalidTTL,
			200: rendezvous.ErrNotAuthorized, 400: rendezvous.ErrUnavailable, 1 << 31: nil,
		} {
			answerBy(h, func([]byte) []byte {
				return rendezvous.AppendResponse(rendezvous.Response{Kind: 1, Status: status, Text: "no\n\x00\xff, retry after 5s"})
			})
			_, err = cl.Register(t.Context(), h.ID(), ns, where, 0)
			var s *rendezvous.StatusError
			require.ErrorAs(t, err, &s)
			require.Equal(t, status, s.Code)
			require.Equal(t, 5*time.Second, s.RetryAfter)
			require.NotContains(t, s.Desc, "\n")
			if is != nil {
				require.ErrorIs(t, err, is)
			}
		}
		answerBy(h, func([]byte) []byte { return make([]byte, 100_000) })
		_, err = cl.Register(t.Context(), h.ID(), ns, where, 0)
		require.ErrorIs(t, err, rendezvous.ErrTooLarge)

		h.SetStreamHandler(rendezvous.ID, func(network.Stream) {})
		start := time.Now()
		_, err = cl.Discover(t.Context(), h.ID(), ns, 0, rendezvous.Cookie{})
		var e *rendezvous.ExchangeError
		require.ErrorAs(t, err, &e)
		require.Equal(t, rendezvous.DefaultTimeout, time.Since(start))
		require.Error(t, cl.Unregister(t.Context(), h.ID(), ns), "nobody let go of the stream")
	})
}

// A point may let go of the stream before we have closed our side.
func TestUnregister(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		p := serve(t, h, free)
		cl := client(c)
		for range 40 {
			_, err := cl.Register(t.Context(), h.ID(), ns, addrs("/ip4/20.0.0.9/tcp/9"), 0)
			require.NoError(t, err)
			require.NoError(t, cl.Unregister(t.Context(), h.ID(), ns))
		}
		require.Equal(t, uint64(40), p.Stats().Unregistered)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, cl.Unregister(ctx, h.ID(), ns), context.Canceled)
		c.Network().ClosePeer(h.ID())
		h.Network().Close()
		require.Error(t, cl.Unregister(t.Context(), h.ID(), ns))
	})
}

// An answer may end anywhere, or come a byte at a time.
func TestHalfAnswers(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		frame := wire.AppendFrame(nil, rendezvous.AppendResponse(rendezvous.Response{Kind: 1, TTL: 60}))
		n := 0
		h.SetStreamHandler(rendezvous.ID, func(s network.Stream) {
			for _, b := range frame[:n] {
				s.Write([]byte{b})
			}
			s.Close()
		})
		for n = range len(frame) {
			_, err := client(c).Register(t.Context(), h.ID(), ns, addrs("/ip4/20.0.0.9/tcp/9"), 0)
			var e *rendezvous.ExchangeError
			require.ErrorAs(t, err, &e)
		}
		n++
		granted, err := client(c).Register(t.Context(), h.ID(), ns, addrs("/ip4/20.0.0.9/tcp/9"), 0)
		require.NoError(t, err)
		require.Equal(t, time.Minute, granted)
	})
}

// Of too many addresses the first are registered, and others can read the request.
func TestManyAddresses(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		serve(t, h, free)
		var all []string
		for i := range 100 {
			all = append(all, fmt.Sprintf("/dns4/%s%d.example.org/tcp/443/wss", strings.Repeat("a", i%50), i))
		}
		_, err := client(c).Register(t.Context(), h.ID(), ns, addrs(all...), 0)
		require.NoError(t, err)
		b, err := ask(t, c, h, discoverRequest(ns, 5, nil))
		require.NoError(t, err)
		r, err := rendezvous.ResponseOf(b, 4, 5)
		require.NoError(t, err)
		info, _, wrong := rendezvous.OpenRecord(r.Regs[0].Record)
		require.Empty(t, wrong)
		require.Equal(t, addrs(all...)[:20], info.Addrs[:20])
		require.LessOrEqual(t, len(registerRequest(ns, r.Regs[0].Record, 7200)), 4096)
	})
}

func TestNamespaces(t *testing.T) {
	s := sharding.Shard{Cluster: 16, Index: 128}
	require.Equal(t, ns, rendezvous.Namespace(s))
	got, err := rendezvous.ParseNamespace(ns)
	require.NoError(t, err)
	require.Equal(t, s, got)
	for _, bad := range []string{"", "rs/", "rs/16", "rs/16/", "rs/16/1024", "rs/016/1", "rs/16/1/mix", "16/128", "rs//waku/2/rs/16/128", "RS/16/128"} {
		_, err := rendezvous.ParseNamespace(bad)
		require.Error(t, err, bad)
	}
}

func TestStatusCodes(t *testing.T) {
	require.Equal(t, "E_INVALID_COOKIE", rendezvous.StatusInvalidCookie.String())
	require.Equal(t, "17", rendezvous.StatusCode(17).String())
	require.Equal(t, time.Hour, rendezvous.ParseRetryAfter("x, retry after 100h"))
	require.Zero(t, rendezvous.ParseRetryAfter("retry after -1s"))
	require.Zero(t, rendezvous.ParseRetryAfter("retry after all"))
	require.False(t, errors.Is(&rendezvous.StatusError{Code: 300}, rendezvous.ErrUnavailable))
}
