package filter_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/sharding"
)

// topics are n of them, as fields.
func topics(n int, next func(i int) string) string {
	var b strings.Builder
	for i := range n {
		v := next(i)
		fmt.Fprintf(&b, "5a%x%x", binary.AppendUvarint(nil, uint64(len(v))), v)
	}
	return b.String()
}

func named(i int) string { return fmt.Sprintf("/app/1/%d/proto", i) }

func TestStatusCodes(t *testing.T) {
	const (
		id                    = "0a0131"                                // "1"
		topic                 = "5210 2f77616b752f322f72732f31362f3332" // /waku/2/rs/16/32
		other                 = "5210 2f77616b752f322f72732f31362f3634" // /waku/2/rs/16/64
		gone                  = "5210 2f77616b752f322f72732f31362f3939" // /waku/2/rs/16/99, not carried
		ct                    = "5a0161"                                // a
		held                  = "5a0466756c6c"                          // full
		ping, sub, unsub, all = "1000", "1001", "1002", "1003"
	)
	same := func(int) string { return "a" }
	long := func(int) string { return strings.Repeat("x", 1025) }
	type test struct {
		request string
		code    filter.StatusCode
		desc    string // part of it
		id      string
	}
	fresh := map[string]test{ // of a peer that isn't subscribed
		"ping":                           {id + ping, 404, "no subscriptions", "1"},
		"ping by default":                {id, 404, "no subscriptions", "1"},
		"unsubscribe":                    {id + unsub + topic + ct, 404, "no subscriptions", "1"},
		"unsubscribe from all":           {id + all, 404, "no subscriptions", "1"},
		"ping with topics":               {id + ping + topic + topics(500, named), 404, "no subscriptions", "1"},
		"nothing at all":                 {"", 400, "request_id is missing", "N/A"},
		"no id":                          {sub + topic + ct, 400, "request_id is missing", "N/A"},
		"an empty id":                    {"0a00" + sub + topic + ct, 400, "request_id is missing", "N/A"},
		"an id of 257 bytes":             {"0a8102" + strings.Repeat("61", 257), 400, "request_id", "N/A"},
		"a number for an id":             {"0801", 400, "request_id", "N/A"},
		"an id that is no text":          {"0a02fffe", 400, "request_id", "N/A"},
		"an unknown type":                {id + "1004" + topic + ct, 400, "filter_subscribe_type", "1"},
		"a type beyond":                  {id + "10ffffffffffffffffff01", 400, "filter_subscribe_type", "1"},
		"bytes for a type":               {id + "120101", 400, "filter_subscribe_type", "1"},
		"no pubsub topic":                {id + sub + ct, 400, "pubsub_topic is missing", "1"},
		"an empty pubsub topic":          {id + sub + "5200" + ct, 400, "pubsub_topic is missing", "1"},
		"a named pubsub topic":           {id + sub + "521a" + fmt.Sprintf("%x", "/waku/2/default-waku/proto") + ct, 400, "no static shard", "1"},
		"a shard beyond":                 {id + sub + "5212" + fmt.Sprintf("%x", "/waku/2/rs/16/1024") + ct, 400, "no static shard", "1"},
		"a pubsub topic that is no text": {id + sub + "5202fffe" + ct, 400, "UTF-8", "1"},
		"no content topics":              {id + sub + topic, 400, "content_topics are missing", "1"},
		"no content topics to leave":     {id + unsub + topic, 400, "content_topics are missing", "1"},
		"no pubsub topic to leave":       {id + unsub + ct, 400, "pubsub_topic is missing", "1"},
		"an empty content topic":         {id + sub + topic + ct + "5a00", 400, "empty", "1"},
		"a content topic too long":       {id + sub + topic + topics(1, long), 400, "more than 1024", "1"},
		"a content topic that is none":   {id + sub + topic + "5a02fffe", 400, "UTF-8", "1"},
		"101 content topics":             {id + sub + topic + topics(101, named), 400, "more than 100", "1"},
		"one content topic 101 times":    {id + sub + topic + topics(101, same), 400, "more than 100", "1"},
		"40,000 content topics":          {id + sub + topic + strings.Repeat(ct, 40_000), 400, "more than 100", "1"},
		"60,000 empty ones":              {id + sub + topic + strings.Repeat("5a00", 60_000), 400, "more than 100", "1"},
		"a number for a topic":           {id + sub + topic + "5801", 400, "content_topics", "1"},
		"the 101st a number":             {id + sub + topic + topics(100, named) + "5801", 400, "content_topics", "1"},
		"something wrong before the id":  {"5a02fffe" + id, 400, "UTF-8", "1"},
		"cut short":                      {id + "5a", 400, "cut short", "1"},
		"cut short before the id":        {"5a", 400, "cut short", "N/A"},
		"field 0":                        {id + "0000", 400, "no protobuf", "1"},
		"an end without a beginning":     {id + "0c", 400, "malformed", "1"},
		"groups without an end":          {id + strings.Repeat("a306", 30_000), 400, "malformed", "1"},
		"a number without end":           {id + "10ffffffffffffffffffffff", 400, "malformed", "1"},
		"text":                           {fmt.Sprintf("%x", "GET / HTTP/1.1"), 400, "malformed", "N/A"},
		"128 KiB and one byte":           {strings.Repeat("00", 128<<10+1), 400, "at most 131072", "N/A"},
		"a shard not carried":            {id + sub + gone + ct, 503, "no messages of that shard", "1"},
		"too many of them":               {id + sub + topic + topics(60, named) + topics(1, same), 503, "content topics", "1"},
	}
	subscribed := map[string]test{ // of one that is, to 16/32 full
		"ping":                     {id + ping, 200, "OK", "1"},
		"ping of a shard":          {id + ping + "5200", 200, "OK", "1"},
		"ping, and unknown fields": {id + ping + "9a0600" + "a80601", 200, "OK", "1"},
		"nested groups":            {id + ping + strings.Repeat("a306", 5000) + strings.Repeat("a406", 5000), 200, "OK", "1"},
		"subscribe":                {id + sub + topic + ct, 200, "OK", "1"},
		"subscribe again":          {id + sub + topic + held, 200, "OK", "1"},
		"a hundred times":          {id + sub + topic + topics(100, same), 200, "OK", "1"},
		"the last of two types":    {id + all + sub + topic + ct, 200, "OK", "1"},
		"the last of two ids":      {"0a0132" + id + ping, 200, "OK", "1"},
		"two at once":              {id + sub + topic + ct + held, 200, "OK", "1"},
		"the last that fit":        {id + sub + topic + topics(59, named), 200, "OK", "1"},
		"one too many":             {id + sub + topic + topics(60, named), 503, "content topics", "1"},
		"one too many elsewhere":   {id + sub + other + topics(60, named), 503, "content topics", "1"},
		"unsubscribe":              {id + unsub + topic + held, 200, "OK", "1"},
		"from what isn't there":    {id + unsub + topic + ct, 200, "OK", "1"},
		"from another shard":       {id + unsub + other + held, 404, "no subscriptions", "1"},
		"from all":                 {id + all, 200, "OK", "1"},
		"from all of a shard":      {id + all + other, 200, "OK", "1"},
	}
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		server, peer := hosts[0], hosts[1]
		p2ptest.Star(t, hosts)
		s := serve(t, server, filter.ServerConfig{
			Rate: -1, MaxCriteria: 60,
			Carries: func(topic string) bool { return topic != "/waku/2/rs/16/99" },
		})
		counts := map[filter.StatusCode]uint64{}
		try := func(name string, c test) {
			r := parse(t, ask(t, peer, server, unhex(c.request)))
			require.Equal(t, c.code, r.code, "%s: %s", name, r.desc)
			require.Contains(t, r.desc, c.desc, name)
			require.Equal(t, c.id, r.id, name)
			require.Less(t, len(r.desc), 200, name)
			require.True(t, s.Consistent(), name)
			counts[r.code]++
		}
		for name, c := range fresh {
			try(name, c)
			require.Zero(t, s.Subscribers(), name)
		}
		for name, c := range subscribed {
			ask(t, peer, server, unhex(id+all))
			want(t, peer, server, "full")
			counts[200]++
			before := s.Stats()
			require.Equal(t, 1, before.Criteria)
			try(name, c)
			if c.code != 200 {
				require.Equal(t, 1, s.Stats().Criteria, "all or nothing: %s", name)
			}
		}
		got := s.Stats()
		require.Equal(t, counts[400], got.BadRequest)
		require.Equal(t, counts[503], got.Unavailable)
		require.Equal(t, uint64(1), got.Failed, "the one not read")
		require.GreaterOrEqual(t, got.OK, counts[200])
		require.GreaterOrEqual(t, got.NotFound, counts[404])
	})
}

// A server that is full still serves those it has.
func TestMaxSubscribers(t *testing.T) {
	bubble(t, 5, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], filter.ServerConfig{MaxSubscribers: 3})
		for _, h := range hosts[1:4] {
			want(t, h, hosts[0], "a")
		}
		r := parse(t, ask(t, hosts[4], hosts[0], filter.Request{ID: "1", Kind: 1, PubsubTopic: pubsub, ContentTopics: []string{"a"}}.Append()))
		require.Equal(t, filter.StatusServiceUnavailable, r.code)
		require.Contains(t, r.desc, "maximum number of subscribers")
		want(t, hosts[1], hosts[0], "b")
		ask(t, hosts[2], hosts[0], unhex("0a0131 1003"))
		want(t, hosts[4], hosts[0], "a")
		require.Equal(t, 3, s.Subscribers())
		require.Equal(t, 4, s.Stats().Criteria)
	})
}

// Any number anywhere is answered.
func TestNumbersAtTheirEnds(t *testing.T) {
	numbers := []uint64{
		0, 1, 2, 3, 4, 5, 63, 64, 99, 100, 101, 127, 128, 255, 256, 1 << 14, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32,
		1 << 62, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2, 1<<64 - 1,
	}
	fields := []protowire.Number{1, 2, 3, 10, 11, 12, protowire.MaxValidNumber}
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], filter.ServerConfig{Rate: -1})
		cases := 0
		for _, f := range fields {
			for _, v := range numbers {
				for _, kind := range numbers[:5] {
					b := protowire.AppendVarint(unhex("0a0131 10"), kind)
					b = protowire.AppendVarint(protowire.AppendTag(b, f, protowire.VarintType), v)
					r := parse(t, ask(t, hosts[1], hosts[0], b))
					require.Contains(t, []filter.StatusCode{400, 404}, r.code)
					cases++
				}
			}
		}
		require.Greater(t, cases, 300)
		require.Zero(t, s.Subscribers())
	})
}

// Shards at their ends.
func TestShards(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], filter.ServerConfig{Rate: -1})
		c, got := client(t, hosts[1])
		for i, shard := range []sharding.Shard{{}, {Cluster: math.MaxUint16, Index: 1023}, {Cluster: 16, Index: 1023}} {
			require.NoError(t, c.Subscribe(t.Context(), hosts[0].ID(), shard, []string{"a"}))
			require.Equal(t, 1, s.Push(shard.PubsubTopic(), text("a", fmt.Sprint(i))))
			synctest.Wait()
			require.Equal(t, []string{fmt.Sprint(i)}, got.payloads())
		}
		require.Error(t, c.Subscribe(t.Context(), hosts[0].ID(), sharding.Shard{Index: 1024}, []string{"a"}))
	})
}

func TestServerRateLimit(t *testing.T) {
	bubble(t, 3, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], filter.ServerConfig{Rate: 4, Burst: 3, Patience: -1})
		codes := func(h host.Host, n int) (codes []filter.StatusCode) {
			for range n {
				codes = append(codes, parse(t, ask(t, h, hosts[0], unhex("0a0131"))).code)
			}
			return codes
		}
		require.Equal(t, []filter.StatusCode{404, 404, 404, 429, 429}, codes(hosts[1], 5))
		require.Equal(t, []filter.StatusCode{404, 404, 404, 429}, codes(hosts[2], 4), "each peer has its own")
		require.Equal(t, parsed{"1", 429, "TOO_MANY_REQUESTS, retry after 250ms"}, parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131"))))
		require.Equal(t, parsed{"N/A", 429, "TOO_MANY_REQUESTS, retry after 250ms"}, parse(t, ask(t, hosts[1], hosts[0], unhex("ff"))))
		require.Equal(t, uint64(5), s.Stats().TooManyRequests)
	})
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		serve(t, hosts[0], filter.ServerConfig{Rate: 4, Burst: 3})
		began := time.Now()
		for range 23 {
			require.Equal(t, filter.StatusNotFound, parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131"))).code)
		}
		require.InDelta(t, 5, since(began).Seconds(), 0.01, "who asks one thing after the other is slowed down, not refused")
	})
}

// Ping, subscribe and unsubscribe keep a subscription; without, it ends.
func TestExpiry(t *testing.T) {
	bubble(t, 3, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		evicted := new(box)
		s := serve(t, hosts[0], filter.ServerConfig{Rate: -1, OnEvict: evicted.failure})
		want(t, hosts[1], hosts[0], "a", "b")
		want(t, hosts[2], hosts[0], "a")
		hours := 24
		if testing.Short() {
			hours = 4
		}
		for i := range hours * 60 / 4 {
			time.Sleep(4 * time.Minute)
			ask(t, hosts[1], hosts[0], unhex([]string{
				"0a0131", "0a0131 1001 5210 2f77616b752f322f72732f31362f3332 5a0161",
				"0a0131 1002 5210 2f77616b752f322f72732f31362f3332 5a0163",
			}[i%3]))
			if i == 0 {
				require.Equal(t, 2, s.Subscribers())
			} else {
				require.Equal(t, 1, s.Subscribers(), "after %d min", 4*i)
			}
		}
		require.Equal(t, []error{filter.ErrExpired}, evicted.told())
		time.Sleep(5*time.Minute - time.Millisecond)
		require.Equal(t, 200, int(parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131"))).code))
		time.Sleep(5 * time.Minute)
		require.Equal(t, 404, int(parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131"))).code), "to the moment")
		time.Sleep(time.Minute)
		require.Zero(t, s.Subscribers())
		require.Equal(t, uint64(2), s.Stats().Evicted)
	})
}

// The clock may jump.
func TestClockJumps(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		var jump atomic.Int64
		s := serve(t, hosts[0], filter.ServerConfig{Rate: -1, Now: func() time.Time {
			return time.Unix(1_700_000_000, 0).Add(time.Duration(jump.Load()))
		}})
		want(t, hosts[1], hosts[0], "a")
		jump.Store(-int64(24 * time.Hour))
		time.Sleep(10 * time.Minute)
		require.Equal(t, 1, s.Subscribers())
		ask(t, hosts[1], hosts[0], unhex("0a0131"))
		jump.Store(int64(24 * time.Hour))
		time.Sleep(time.Minute)
		require.Zero(t, s.Subscribers())
		require.Equal(t, 404, int(parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131"))).code))
		want(t, hosts[1], hosts[0], "a")
		require.Equal(t, 1, s.Subscribers())
	})
}

// A subscriber without a connection is kept for half a minute.
func TestDisconnected(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		evicted := new(box)
		s := serve(t, hosts[0], filter.ServerConfig{OnEvict: evicted.failure})
		c, got := client(t, hosts[1])
		p2ptest.Star(t, hosts)
		require.NoError(t, c.Subscribe(t.Context(), hosts[0].ID(), shard, []string{"a"}))
		s.Push(pubsub, text("a", "1"))
		time.Sleep(4 * time.Second)
		p2ptest.Disconnect(t, hosts[0], hosts[1])
		require.Equal(t, 1, s.Push(pubsub, text("a", "2")))
		require.Equal(t, 1, s.Push(pubsub, text("a", "3")))
		time.Sleep(20 * time.Second)
		require.Equal(t, []string{"1"}, got.payloads())
		p2ptest.Connect(t, hosts[1], hosts[0])
		time.Sleep(6 * time.Second)
		require.Equal(t, []string{"2", "3"}, got.payloads(), "without a word from the client")
		p2ptest.Disconnect(t, hosts[0], hosts[1])
		s.Push(pubsub, text("a", "4"))
		time.Sleep(20 * time.Second)
		p2ptest.Connect(t, hosts[1], hosts[0])
		require.NoError(t, c.Ping(t.Context(), hosts[0].ID()))
		synctest.Wait()
		require.Equal(t, []string{"4"}, got.payloads(), "at its ping")
		p2ptest.Disconnect(t, hosts[0], hosts[1])
		time.Sleep(36 * time.Second)
		require.Zero(t, s.Subscribers())
		require.Equal(t, []error{filter.ErrDisconnected}, evicted.told())
		require.NoError(t, hosts[1].Connect(t.Context(), p2ptest.AddrInfo(hosts[0])))
		require.ErrorIs(t, c.Ping(t.Context(), hosts[0].ID()), filter.ErrNotSubscribed)
	})
}

// A server whose memory is short says so instead of hanging up.
func TestNoMemory(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.PartialLimitConfig{
			Service: map[string]rcmgr.ResourceLimits{"waku.filter": {Memory: 20}},
		}.Build(rcmgr.DefaultLimits.AutoScale())), rcmgr.WithMetricsDisabled())
		require.NoError(t, err)
		n := p2ptest.New(t, p2ptest.Config{})
		client, server := n.Host(p2ptest.HostConfig{}), n.Host(p2ptest.HostConfig{Resources: m})
		p2ptest.Connect(t, client, server)
		told := new(box)
		serve(t, server, filter.ServerConfig{OnFailure: told.failure})
		for _, request := range []string{"0a0131 9a0620" + strings.Repeat("00", 32), "0a0131"} {
			r := parse(t, ask(t, client, server, unhex(request)))
			require.Equal(t, filter.StatusServiceUnavailable, r.code)
			require.Contains(t, r.desc, "no memory, retry after 1s")
			synctest.Wait()
			require.ErrorIs(t, told.told()[0], network.ErrResourceLimitExceeded)
		}
	})
}

// A panicking callback is nobody's end.
func TestServerCallbacksPanic(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		boom := func(peer.ID, error) { panic("boom") }
		carries := true
		s := serve(t, hosts[0], filter.ServerConfig{OnEvict: boom, OnFailure: boom, Carries: func(string) bool {
			if !carries {
				panic("boom")
			}
			return true
		}})
		want(t, hosts[1], hosts[0], "a")
		time.Sleep(6 * time.Minute)
		require.Zero(t, s.Subscribers())
		carries = false
		st, err := p2ptest.OpenStream(t.Context(), hosts[1], hosts[0].ID(), filter.SubscribeID)
		require.NoError(t, err)
		require.NoError(t, wire.WriteFrame(st, filter.Request{ID: "1", Kind: 1, PubsubTopic: pubsub, ContentTopics: []string{"a"}}.Append()))
		p2ptest.AwaitEnd(st)
		carries = true
		want(t, hosts[1], hosts[0], "a")
	})
}

// Length bombs and slow senders at the service (A2, A3).
func TestServerUnderAttack(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		server, attacker := hosts[0], hosts[1]
		p2ptest.Star(t, hosts)
		s := serve(t, server, filter.ServerConfig{})
		growth := p2ptest.ThrowBombs(t, attacker, server, filter.SubscribeID, 1000)
		require.Less(t, growth, int64(16<<20))
		synctest.Wait()
		require.Equal(t, uint64(1000), s.Stats().Failed)
		before := p2ptest.Goroutines()
		began := time.Now()
		var streams []network.Stream
		for i := range 2000 {
			st, err := p2ptest.OpenStream(t.Context(), attacker, server.ID(), filter.SubscribeID)
			if err != nil {
				continue
			}
			streams = append(streams, st)
			if i%2 == 0 {
				go p2ptest.Drip(st, []byte{100}, 3*time.Second)
			}
		}
		p2ptest.AwaitEnd(streams...)
		require.LessOrEqual(t, since(began), 12*time.Second)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.LessOrEqual(t, p2ptest.Goroutines(), before)
		want(t, attacker, server, "a")
		require.Equal(t, 1, s.Subscribers())
	})
}

// A million strangers leave no trace (C8).
func TestManyStrangers(t *testing.T) {
	bubble(t, 1, func(t *testing.T, hosts []host.Host) {
		s := serve(t, hosts[0], filter.ServerConfig{MaxSubscribers: 100})
		r := filter.Request{ID: "1", Kind: 1, PubsubTopic: pubsub, ContentTopics: []string{"a"}}.Append()
		for i := range 20_000 {
			s.Handle(peer.ID(fmt.Sprint(i)), r)
		}
		require.Equal(t, 100, s.Subscribers())
	})
}

func TestServerCloses(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		s := filter.NewServer(hosts[0], filter.ServerConfig{})
		want(t, hosts[1], hosts[0], "a")
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		require.Zero(t, s.Push(pubsub, text("a", "late")))
		require.Zero(t, s.Subscribers())
	})
}

// js-waku unsubscribes and doesn't wait for the answer.
func TestAnswerUnread(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], filter.ServerConfig{})
		want(t, hosts[1], hosts[0], "a", "b")
		st, err := p2ptest.OpenStream(t.Context(), hosts[1], hosts[0].ID(), filter.SubscribeID)
		require.NoError(t, err)
		require.NoError(t, wire.WriteFrame(st, filter.Request{ID: "1", Kind: 2, PubsubTopic: pubsub, ContentTopics: []string{"a"}}.Append()))
		require.NoError(t, st.Close())
		synctest.Wait()
		require.Equal(t, 1, s.Stats().Criteria)
	})
}
