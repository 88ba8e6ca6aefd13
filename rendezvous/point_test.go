package rendezvous_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/rendezvous"
)

// One registers, another finds it, until it is gone.
func TestRegisterDiscoverUnregister(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		at := hosts[0].ID()
		p := serve(t, hosts[0], rendezvous.PointConfig{})
		member, seeker := client(hosts[1]), client(hosts[2])
		where := addrs("/ip4/20.0.0.9/tcp/1", "/ip4/20.0.0.9/udp/1/quic-v1")

		granted, err := member.Register(t.Context(), at, ns, where, 0)
		require.NoError(t, err)
		require.Equal(t, 2*time.Hour, granted)
		got, err := seeker.Discover(t.Context(), at, ns, 0, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Len(t, got.Peers, 1)
		require.Equal(t, peer.AddrInfo{ID: hosts[1].ID(), Addrs: where}, got.Peers[0].Info)
		require.Equal(t, 2*time.Hour, got.Peers[0].TTL)
		require.Equal(t, ns, got.Peers[0].Namespace)
		require.Nil(t, got.Refused)

		// Nobody finds himself, nor anybody elsewhere, nor anything new.
		self, err := member.Discover(t.Context(), at, ns, 0, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Empty(t, self.Peers)
		require.Equal(t, map[string]int{rendezvous.RefusedSelf: 1}, self.Refused)
		none, err := seeker.Discover(t.Context(), at, "rs/16/129", 0, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Empty(t, none.Peers)
		again, err := seeker.Discover(t.Context(), at, ns, 0, got.Cookie)
		require.NoError(t, err)
		require.Empty(t, again.Peers)
		all, err := seeker.Discover(t.Context(), at, "", 0, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Len(t, all.Peers, 1)

		// Another address is news, the same isn't.
		for _, w := range [][]string{{"/ip4/20.0.0.9/tcp/2"}, {"/ip4/20.0.0.9/tcp/2"}} {
			_, err = member.Register(t.Context(), at, ns, addrs(w...), time.Hour)
			require.NoError(t, err)
		}
		again, err = seeker.Discover(t.Context(), at, ns, 0, again.Cookie)
		require.NoError(t, err)
		require.Len(t, again.Peers, 1)
		require.Equal(t, time.Hour, again.Peers[0].TTL)
		require.Equal(t, addrs("/ip4/20.0.0.9/tcp/2"), again.Peers[0].Info.Addrs)

		require.NoError(t, member.Unregister(t.Context(), at, ns))
		synctest.Wait()
		got, err = seeker.Discover(t.Context(), at, ns, 0, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Empty(t, got.Peers)
		s := p.Stats()
		require.Equal(t, uint64(1), s.Registered)
		require.Equal(t, uint64(2), s.Renewed)
		require.Equal(t, uint64(1), s.Unregistered)
		require.Zero(t, s.Registrations+s.Peers+s.Namespaces+s.Addresses+s.RecordBytes)
		require.Zero(t, s.Failed)
		require.Empty(t, s.Refused)
		require.Equal(t, rendezvous.ClientStats{Answered: 5, Discarded: 1}, member.Stats())
	})
}

// A registration is gone when its time is up, to the second.
func TestExpiry(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		p := serve(t, h, free)
		require.True(t, p.Put(idOf(100), ns, "a", record(100), time.Minute))
		require.True(t, p.Put(idOf(101), ns, "a", record(101), time.Hour))
		time.Sleep(time.Minute - time.Millisecond)
		got, err := client(c).Discover(t.Context(), h.ID(), ns, 10, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Len(t, got.Peers, 2)
		time.Sleep(time.Millisecond)
		got, err = client(c).Discover(t.Context(), h.ID(), ns, 10, rendezvous.Cookie{})
		require.NoError(t, err)
		require.Equal(t, []peer.ID{idOf(101)}, ids(got.Peers))
		require.Equal(t, 59*time.Minute, got.Peers[0].TTL)
		require.Equal(t, uint64(1), p.Stats().Expired)
	})
}

// What is refused, and by which code.
func TestRefusals(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		cfg := free
		cfg.Admit = func(_ peer.ID, ns string) bool { return ns != "rs/1/1" }
		p := serve(t, h, cfg)
		own, ok := record(0), record(1)
		big := func(n, size int) []byte {
			var all [][]byte
			for range n {
				all = append(all, addrs("/dns4/" + strings.Repeat("a", size) + "/tcp/1")[0].Bytes())
			}
			return envelope(0, "libp2p-peer-record", recordType, payload(idOf(0), 1, all...))
		}
		a := addrs("/ip4/20.0.0.1/tcp/1")[0].Bytes()
		for name, r := range map[string]struct {
			request []byte
			code    rendezvous.StatusCode
		}{
			"fine":                   {registerRequest(ns, own, 7200), 0},
			"no ttl":                 {registerRequest(ns, own, 0), 0},
			"the shortest":           {registerRequest(ns, own, 60), 0},
			"the longest":            {registerRequest(ns, own, 72*3600), 0},
			"too short":              {registerRequest(ns, own, 59), 102},
			"too long":               {registerRequest(ns, own, 72*3600+1), 102},
			"ttl overflow":           {registerRequest(ns, own, 1<<63), 102},
			"ttl of all ones":        {registerRequest(ns, own, 1<<64-1), 102},
			"ttl that wraps to 2 h":  {registerRequest(ns, own, 1<<55+7200), 102},
			"no namespace":           {registerRequest("", own, 7200), 100},
			"another network's":      {registerRequest("/waku/2/default-waku/proto", own, 7200), 100},
			"no such shard":          {registerRequest("rs/16/1024", own, 7200), 100},
			"a shard written oddly":  {registerRequest("rs/16/0128", own, 7200), 100},
			"a pubsub topic":         {registerRequest("rs//waku/2/rs/16/128", own, 7200), 100},
			"a long namespace":       {registerRequest(strings.Repeat("r", 256), own, 7200), 100},
			"bytes for a namespace":  {registerRequest("rs/\xff", own, 7200), 100},
			"not admitted":           {registerRequest("rs/1/1", own, 7200), 200},
			"somebody else's":        {registerRequest(ns, ok, 7200), 101},
			"no record":              {registerRequest(ns, nil, 7200), 101},
			"no envelope":            {registerRequest(ns, []byte("a record"), 7200), 101},
			"a changed record":       {registerRequest(ns, append(slices.Clone(own[:len(own)-1]), own[len(own)-1]^1), 7200), 101},
			"of another domain":      {registerRequest(ns, envelope(0, "libp2p-relay-rsvp", recordType, payload(idOf(0), 1, a)), 7200), 101},
			"of another type":        {registerRequest(ns, envelope(0, "libp2p-peer-record", []byte{3, 2}, payload(idOf(0), 1, a)), 7200), 101},
			"about somebody else":    {registerRequest(ns, envelope(0, "libp2p-peer-record", recordType, payload(idOf(1), 1, a)), 7200), 101},
			"signed by another":      {registerRequest(ns, envelope(1, "libp2p-peer-record", recordType, payload(idOf(0), 1, a)), 7200), 101},
			"no address":             {registerRequest(ns, envelope(0, "libp2p-peer-record", recordType, payload(idOf(0), 1)), 7200), 101},
			"unreadable address":     {registerRequest(ns, envelope(0, "libp2p-peer-record", recordType, payload(idOf(0), 1, []byte{0xff})), 7200), 101},
			"2,000 bytes of address": {registerRequest(ns, big(10, 190), 7200), 0},
			"2,100 bytes of address": {registerRequest(ns, big(10, 201), 7200), 101},
			"65 addresses":           {registerRequest(ns, big(65, 4), 7200), 101},
			"a giant record":         {registerRequest(ns, make([]byte, 7000), 7200), 101},
			"a record of 300 KB":     {registerRequest(ns, make([]byte, 300_000), 7200), 101},
			"discover nothing":       {discoverRequest(strings.Repeat("r", 256), 1, nil), 100},
			"discover elsewhere":     {discoverRequest("chat", 1, nil), 100},
			"discover with a cookie": {discoverRequest(ns, 1, []byte("cookie")), 103},
			"a cookie of zeros":      {discoverRequest(ns, 1, make([]byte, rendezvous.CookieSize)), 103},
			"a cookie of 4 KB":       {discoverRequest(ns, 1, make([]byte, 4096)), 103},
		} {
			b, err := ask(t, c, h, r.request)
			require.NoError(t, err, name)
			got, text := status(t, b)
			require.Equal(t, r.code, got, "%s: %s", name, text)
			if got != 0 {
				require.True(t, strings.HasPrefix(text, got.String()), text)
				require.Less(t, len(text), 256)
			}
		}
		require.Equal(t, 1, p.Stats().Registrations)
	})
}

// A cookie is good for one point and one namespace.
func TestCookies(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		c := hosts[0]
		for _, h := range hosts[1:] {
			serve(t, h, free).Put(idOf(100), ns, "a", record(100), time.Hour)
		}
		cookieOf := func(h host.Host, ns string, cookie []byte) []byte {
			b, err := ask(t, c, h, discoverRequest(ns, 10, cookie))
			require.NoError(t, err)
			r, err := rendezvous.ResponseOf(b, 4, 10)
			require.NoError(t, err)
			if r.Status != 0 {
				require.Equal(t, rendezvous.StatusInvalidCookie, r.Status)
				return nil
			}
			require.Len(t, r.Cookie, rendezvous.CookieSize)
			return r.Cookie
		}
		mine := cookieOf(hosts[1], ns, nil)
		require.NotNil(t, cookieOf(hosts[1], ns, mine))
		require.Nil(t, cookieOf(hosts[2], ns, mine))
		require.Nil(t, cookieOf(hosts[1], "rs/16/1", mine))
		require.Nil(t, cookieOf(hosts[1], "", mine))
		for i := range mine {
			hostile := append([]byte(nil), mine...)
			hostile[i] ^= 1
			require.Nil(t, cookieOf(hosts[1], ns, hostile))
		}
		require.Nil(t, cookieOf(hosts[1], ns, mine[1:]))
		require.Nil(t, cookieOf(hosts[1], ns, append(mine, 0)))
	})
}

// All of a namespace is found, however many there are, and then what is new.
func TestWalk(t *testing.T) {
	couple(t, func(t *testing.T, c, h host.Host) {
		p := serve(t, h, free)
		const n = 60
		for i := range n {
			require.True(t, p.Put(idOf(100+i), ns, string(rune('a'+i%3)), record(100+i), time.Hour))
		}
		seeker := client(c)
		seen := make(map[peer.ID]int)
		var cookie rendezvous.Cookie
		for i := range 1 + n/7 + 1 {
			a, err := seeker.Discover(t.Context(), h.ID(), ns, 7, cookie)
			require.NoError(t, err)
			require.NotEmpty(t, a.Peers, i)
			for _, id := range ids(a.Peers) {
				seen[id]++
			}
			cookie = a.Cookie
		}
		require.Len(t, seen, n)
		a, err := seeker.Discover(t.Context(), h.ID(), ns, 7, cookie)
		require.NoError(t, err)
		require.Empty(t, a.Peers)
		require.True(t, p.Put(idOf(200), ns, "d", record(200), time.Hour))
		a, err = seeker.Discover(t.Context(), h.ID(), ns, 7, a.Cookie)
		require.NoError(t, err)
		require.Equal(t, []peer.ID{idOf(200)}, ids(a.Peers))

		// After a restart the point doesn't know the cookie: it is the beginning.
		p.Close()
		p = serve(t, h, free)
		require.True(t, p.Put(idOf(100), ns, "d", record(100), time.Hour))
		a, err = seeker.Discover(t.Context(), h.ID(), ns, 7, a.Cookie)
		require.NoError(t, err)
		require.Equal(t, []peer.ID{idOf(100)}, ids(a.Peers))
	})
}

// Whoever asks too often is told when to come back, and so is a crowd.
func TestPace(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		at := hosts[0].ID()
		serve(t, hosts[0], rendezvous.PointConfig{Rate: 2, Burst: 3})
		c := client(hosts[1])
		for range 3 {
			_, err := c.Discover(t.Context(), at, ns, 1, rendezvous.Cookie{})
			require.NoError(t, err)
		}
		_, err := c.Discover(t.Context(), at, ns, 1, rendezvous.Cookie{})
		require.ErrorIs(t, err, rendezvous.ErrUnavailable)
		var s *rendezvous.StatusError
		require.ErrorAs(t, err, &s)
		require.Equal(t, 500*time.Millisecond, s.RetryAfter)
		_, err = client(hosts[2]).Discover(t.Context(), at, ns, 1, rendezvous.Cookie{})
		require.NoError(t, err)
		time.Sleep(s.RetryAfter)
		_, err = c.Discover(t.Context(), at, ns, 1, rendezvous.Cookie{})
		require.NoError(t, err)
	})
}
