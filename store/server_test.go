package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// reply is a response taken apart.
type reply struct {
	id, desc string
	code     uint64
	entries  int
	cursor   bool
}

// parse insists on what nwaku and js-waku need to find.
func parse(t testing.TB, b []byte) (r reply) {
	found := map[protowire.Number]bool{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		require.Positive(t, n)
		found[num] = true
		switch num {
		case 1:
			v, _ := protowire.ConsumeBytes(b)
			r.id = string(v)
		case 10:
			r.code, _ = protowire.ConsumeVarint(b)
		case 11:
			v, _ := protowire.ConsumeBytes(b)
			r.desc = string(v)
		case 20:
			r.entries++
		case 51:
			r.cursor = true
		}
		b = b[n:]
	}
	require.True(t, found[1] && found[10] && found[11], "fields 1, 10 and 11 are always there")
	require.NotZero(t, r.code)
	return r
}

func repeat(n int, field string, next func(i int) []byte) string {
	var b bytes.Buffer
	for i := range n {
		v := next(i)
		b.WriteString(field)
		fmt.Fprintf(&b, "%x%x", binary.AppendUvarint(nil, uint64(len(v))), v)
	}
	return b.String()
}

func zigzag(n int64) string {
	return fmt.Sprintf("%x", protowire.AppendVarint(nil, protowire.EncodeZigZag(n)))
}

func TestStatusCodes(t *testing.T) {
	const (
		id    = "0a0131" // "1"
		topic = "5210 2f77616b752f322f72732f31362f3332"
		h     = "20 1111111111111111111111111111111111111111111111111111111111111111"
		zero  = "20 0000000000000000000000000000000000000000000000000000000000000000"
		ct    = "5a0161"
	)
	number := func(i int) []byte { return fmt.Appendf(nil, "%032d", i) }
	same := func(int) []byte { return number(7) }
	cases := map[string]struct {
		request string
		code    uint64
		desc    string // part of it
		id      string
	}{
		"nothing at all":              {"", 200, "OK", ""},
		"an id":                       {id, 200, "OK", "1"},
		"no id":                       {"1001", 200, "OK", ""},
		"a shard":                     {id + topic, 200, "OK", "1"},
		"a shard and topics":          {id + topic + ct, 200, "OK", "1"},
		"hashes":                      {id + "a201" + h, 200, "OK", "1"},
		"hashes and a shard":          {id + topic + "a201" + h, 200, "OK", "1"},
		"ten topics":                  {id + topic + repeat(10, "5a", number), 200, "OK", "1"},
		"ten topics, thrice":          {id + topic + strings.Repeat(repeat(10, "5a", number), 3), 200, "OK", "1"},
		"a hundred hashes":            {id + repeat(100, "a201", number), 200, "OK", "1"},
		"1800 times the same hash":    {id + repeat(1800, "a201", same), 200, "OK", "1"},
		"a limit beyond all":          {id + "a803 ffffffffffffffffff01", 200, "OK", "1"},
		"times at both ends":          {id + "60" + zigzag(math.MinInt64) + "68" + zigzag(math.MaxInt64), 200, "OK", "1"},
		"an unknown field":            {id + "9a0600", 200, "OK", "1"},
		"nested groups":               {id + strings.Repeat("a306", 5000) + strings.Repeat("a406", 5000), 200, "OK", "1"},
		"an unknown cursor":           {id + "9a03" + h, 300, "cursor not found", "1"},
		"a cursor of zeros":           {id + "9a03" + zero, 300, "cursor not found", "1"},
		"a short cursor":              {id + "9a03021111", 400, "pagination_cursor", "1"},
		"an empty cursor":             {id + "9a0300", 400, "pagination_cursor", "1"},
		"a short hash":                {id + "a201021111", 400, "message_hashes", "1"},
		"a number for a hash":         {id + "a00101", 400, "message_hashes", "1"},
		"a number for an id":          {"0801", 400, "request_id", "N/A"},
		"bytes for a number":          {id + "aa030101", 400, "pagination_limit", "1"},
		"bytes for a flag":            {id + "120101", 400, "include_data", "1"},
		"fixed64 for a time":          {id + "610102030405060708", 400, "time_start", "1"},
		"eleven topics":               {id + topic + repeat(11, "5a", number), 400, "content_topics", "1"},
		"1900 topics":                 {id + topic + repeat(1900, "5a", number), 400, "content_topics", "1"},
		"30,000 empty topics":         {id + topic + strings.Repeat("5a00", 30_000), 400, "ContentTopics", "1"},
		"101 hashes":                  {id + repeat(101, "a201", number), 400, "message_hashes", "1"},
		"topics without a shard":      {id + ct, 400, "need a shard", "1"},
		"an empty topic":              {id + topic + "5a00", 400, "empty", "1"},
		"an empty pubsub topic":       {id + "5200", 400, "no static shard", "1"},
		"a named pubsub topic":        {id + "521a" + fmt.Sprintf("%x", "/waku/2/default-waku/proto"), 400, "no static shard", "1"},
		"a shard beyond":              {id + "5212" + fmt.Sprintf("%x", "/waku/2/rs/16/1024"), 400, "no static shard", "1"},
		"hashes and topics":           {id + topic + ct + "a201" + h, 400, "content topics", "1"},
		"hashes and a start":          {id + "6002" + "a201" + h, 400, "time range", "1"},
		"hashes and an end":           {id + "6802" + "a201" + h, 400, "time range", "1"},
		"an end before its start":     {id + "6004" + "6802", 400, "before Start", "1"},
		"a topic that is no text":     {id + topic + "5a02fffe", 400, "UTF-8", "1"},
		"a pubsub topic that is none": {id + "5202fffe", 400, "UTF-8", "1"},
		"an id that is none":          {"0a02fffe", 400, "request_id", "N/A"},
		"an id after something wrong": {"a201021111" + id, 400, "message_hashes", "1"},
		"cut short":                   {id + "a201", 400, "EOF", "1"},
		"cut short before the id":     {"a201", 400, "EOF", "N/A"},
		"field 0":                     {id + "0000", 400, "field number", "1"},
		"an end without a beginning":  {id + "0c", 400, "malformed", "1"},
		"groups without an end":       {id + strings.Repeat("a306", 20_000), 400, "malformed", "1"},
		"a number without end":        {id + "60ffffffffffffffffffffff", 400, "malformed", "1"},
		"text":                        {fmt.Sprintf("%x", "GET / HTTP/1.1"), 400, "malformed", "N/A"},
		"64 KiB and one byte":         {strings.Repeat("00", 64<<10+1), 400, "65536", "N/A"},
	}
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, archive(entries(50)...), store.ServerConfig{Rate: -1})
		want := store.ServerStats{}
		for name, c := range cases {
			r := parse(t, ask(t, client, server, unhex(c.request)))
			require.Equal(t, c.code, r.code, "%s: %s", name, r.desc)
			require.Contains(t, r.desc, c.desc, name)
			require.Equal(t, c.id, r.id, name)
			require.Less(t, len(r.desc), 200, name)
			switch c.code {
			case 200:
				want.Success++
			case 300:
				want.BadResponse++
			case 400:
				want.BadRequest++
			}
			if strings.Contains(c.desc, "65536") {
				want.Failed++
			}
		}
		for _, field := range []string{"a201" + h, "5a20" + h[2:]} {
			r := parse(t, ask(t, client, server, bytes.Repeat(unhex(field), 100_000)))
			require.Equal(t, uint64(400), r.code)
			require.Contains(t, r.desc, "at most 65536 are read")
			want.BadRequest++
			want.Failed++
		}
		synctest.Wait()
		got := s.Stats()
		require.Positive(t, got.Entries)
		require.Positive(t, got.Bytes)
		got.Entries, got.Bytes = 0, 0
		require.Equal(t, want, got)
	})
}

// Any number anywhere is answered.
func TestNumbersAtTheirEnds(t *testing.T) {
	numbers := []uint64{
		0, 1, 2, 19, 20, 21, 99, 100, 101, 127, 128, 1 << 31, 1<<31 - 1, 1 << 32, 1<<32 - 1,
		1 << 62, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2, 1<<64 - 1,
	}
	fields := []protowire.Number{2, 12, 13, 50, 52, 53, 54, protowire.MaxValidNumber}
	pair(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, archive(entries(150)...), store.ServerConfig{Rate: -1})
		for _, f := range fields {
			for _, v := range numbers {
				for _, w := range numbers[:3] {
					b := protowire.AppendVarint(protowire.AppendTag(unhex("0a0131"), f, protowire.VarintType), v)
					b = protowire.AppendVarint(protowire.AppendTag(b, f^1, protowire.VarintType), w)
					r := parse(t, ask(t, client, server, b))
					require.Contains(t, []uint64{200, 400}, r.code)
					require.LessOrEqual(t, r.entries, store.MaxPageSize)
				}
			}
		}
		limit := func(v uint64) int {
			b := protowire.AppendVarint(protowire.AppendTag(unhex("0a0131"), 53, protowire.VarintType), v)
			return parse(t, ask(t, client, server, b)).entries
		}
		for v, want := range map[uint64]int{0: 20, 1: 1, 99: 99, 100: 100, 101: 100, 1 << 63: 100, 1<<64 - 1: 100} {
			require.Equal(t, want, limit(v), "%d", v)
		}
		require.Equal(t, 20, parse(t, ask(t, client, server, unhex("0a0131"))).entries)
	})
}

// js-waku takes the last or first message of a page for its cursor and stops at
// an empty page.
func TestCursorOfTheLastMessage(t *testing.T) {
	list := entries(5)
	pair(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, archive(list...), store.ServerConfig{})
		for forward, e := range map[string]store.Entry{"a00301": list[4], "a00300": list[0]} {
			r := parse(t, ask(t, client, server, append(unhex("0a0131 1001 9a0320"), append(e.Hash[:], unhex(forward)...)...)))
			require.Equal(t, reply{id: "1", code: 200, desc: "OK"}, r)
		}
	})
}

func TestRateLimit(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		s := serve(t, hosts[0], archive(entries(5)...), store.ServerConfig{Rate: 4, Burst: 3, Patience: -1})
		codes := func(h host.Host, n int) (codes []uint64) {
			for range n {
				codes = append(codes, parse(t, ask(t, h, hosts[0], unhex("0a0131"))).code)
			}
			return codes
		}
		require.Equal(t, []uint64{200, 200, 200, 429, 429}, codes(hosts[1], 5))
		require.Equal(t, []uint64{200, 200, 200, 429}, codes(hosts[2], 4), "each peer has its own")
		r := parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131")))
		require.Equal(t, reply{id: "1", code: 429, desc: "TOO_MANY_REQUESTS, retry after 250ms"}, r)
		require.Equal(t, uint64(429), parse(t, ask(t, hosts[1], hosts[0], unhex("ff"))).code, "bad ones count as well")

		c := store.NewClient(hosts[1], fast)
		_, err := c.Query(t.Context(), hosts[0].ID(), store.Query{})
		var status *store.StatusError
		require.ErrorAs(t, err, &status)
		require.Equal(t, &store.StatusError{Peer: hosts[0].ID(), Code: store.StatusTooManyRequests,
			Desc: "TOO_MANY_REQUESTS, retry after 250ms", RetryAfter: 250 * time.Millisecond}, status)
		start := time.Now()
		require.Len(t, collect(t, c, hosts[0], store.Query{Limit: 1}), 5, "a walk is patient")
		require.Less(t, time.Since(start), 3*time.Second)
		require.Equal(t, uint64(11), s.Stats().Success)
	})
}

// Who asks one thing after the other is slowed down and never refused.
func TestRatePatience(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		p2ptest.Star(t, hosts)
		serve(t, hosts[0], archive(entries(5)...), store.ServerConfig{Rate: 4, Burst: 3})
		began := time.Now()
		for range 23 {
			require.Equal(t, uint64(200), parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131"))).code)
		}
		require.InDelta(t, 5, time.Since(began).Seconds(), 0.01)
		var refused atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if parse(t, ask(t, hosts[1], hosts[0], unhex("0a0131"))).code == 429 {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int64(2), refused.Load(), "two can wait half a second")
	})
}

func TestUnavailable(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 4)
		p2ptest.Star(t, hosts)
		server, clients := hosts[0], hosts[1:]
		broken := errors.New("the disk is on fire, /var/lib/secret")
		var (
			mu   sync.Mutex
			told []error
			hang = make(chan struct{})
		)
		s := serve(t, server, source(func(ctx context.Context, q store.Query) (store.Page, error) {
			switch q.Limit {
			case 1:
				return store.Page{}, fmt.Errorf("%w: %w", store.ErrUnavailable, broken)
			case 2:
				return store.Page{}, broken
			case 3:
				panic(broken)
			case 4: // does as it is told
				<-ctx.Done()
				return store.Page{}, ctx.Err()
			case 5: // doesn't
				<-hang
			}
			return store.Page{}, nil
		}), store.ServerConfig{Rate: -1, Queries: 2, Waiting: 3, OnFailure: func(_ peer.ID, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, err)
		}})
		defer close(hang)
		queryBy := func(client host.Host, limit int) (time.Duration, error) {
			start := time.Now()
			_, err := store.NewClient(client, fast).Query(t.Context(), server.ID(), store.Query{Limit: limit})
			return time.Since(start), err
		}
		query := func(limit int) (time.Duration, error) { return queryBy(clients[0], limit) }
		for limit, want := range map[int]time.Duration{1: 0, 2: 0, 4: 5 * time.Second} {
			took, err := query(limit)
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.Equal(t, want, took)
			var status *store.StatusError
			require.ErrorAs(t, err, &status)
			require.Equal(t, "SERVICE_UNAVAILABLE, retry after 1s", status.Desc, "no secrets")
			require.Equal(t, time.Second, status.RetryAfter)
		}
		_, err := query(3)
		var exchange *store.ExchangeError
		require.ErrorAs(t, err, &exchange)
		synctest.Wait()
		require.Len(t, told, 4)
		require.Equal(t, uint64(1), s.Stats().Failed)

		// While the archive hangs, those who come later know within a second.
		go query(4)
		go query(4)
		synctest.Wait()
		var wg sync.WaitGroup
		var took []time.Duration
		for i := range 5 {
			wg.Go(func() {
				d, err := queryBy(clients[1+i%2], 6)
				require.ErrorIs(t, err, store.ErrUnavailable)
				mu.Lock()
				defer mu.Unlock()
				took = append(took, d)
			})
		}
		wg.Wait()
		slices.Sort(took)
		require.Equal(t, []time.Duration{0, 0, time.Second, time.Second, time.Second}, took)
		time.Sleep(5 * time.Second)
		d, err := query(6)
		require.NoError(t, err)
		require.Zero(t, d)
	})
}

func TestClosedServer(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := store.NewServer(server, source(func(ctx context.Context, _ store.Query) (store.Page, error) {
			<-ctx.Done()
			return store.Page{}, ctx.Err()
		}), store.ServerConfig{})
		c := store.NewClient(client, fast)
		result := make(chan error)
		go func() {
			_, err := c.Query(t.Context(), server.ID(), store.Query{})
			result <- err
		}()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		require.Zero(t, time.Since(start))
		var exchange *store.ExchangeError
		require.ErrorAs(t, <-result, &exchange)
		_, err := c.Query(t.Context(), server.ID(), store.Query{})
		require.ErrorIs(t, err, store.ErrUnsupported)
	})
}

func TestLengthBombs(t *testing.T) {
	pair(t, func(t *testing.T, attacker, server host.Host) {
		s := serve(t, server, archive(entries(5)...), store.ServerConfig{})
		require.Less(t, p2ptest.ThrowBombs(t, attacker, server, store.ID, 1000), int64(16<<20))
		synctest.Wait()
		require.NotZero(t, s.Stats().Failed)
		require.Len(t, collect(t, store.NewClient(attacker, fast), server, store.Query{}), 5)
	})
}

// large is a message of 150 KiB.
func large(i int) store.Entry {
	return store.NewEntry(shard, &message.Message{
		Payload:      binary.BigEndian.AppendUint32(make([]byte, 149<<10), uint32(i)),
		ContentTopic: topicA,
		Timestamp:    epoch + int64(i),
	})
}

// A page ends early when its messages are large; one message always fits.
func TestPageBytes(t *testing.T) {
	var list []store.Entry
	for i := range 20 {
		list = append(list, large(i))
	}
	list = append(list, store.NewEntry(shard, &message.Message{
		Payload: make([]byte, message.LargeMaxSize-100), ContentTopic: topicA, Timestamp: epoch + 100,
	}))
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, archive(list...), store.ServerConfig{Rate: -1})
		require.Equal(t, list, collect(t, store.NewClient(client, fast), server, store.Query{}))
		require.Equal(t, uint64(3), s.Stats().Success) // 7, 7, and 6 with the last
	})
}

// A server whose memory is short says so instead of hanging up.
func TestNoMemory(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.PartialLimitConfig{
			Service: map[string]rcmgr.ResourceLimits{"waku.store": {Memory: 1000}},
		}.Build(rcmgr.DefaultLimits.AutoScale())), rcmgr.WithMetricsDisabled())
		require.NoError(t, err)
		n := p2ptest.New(t, p2ptest.Config{})
		client, server := n.Host(p2ptest.HostConfig{}), n.Host(p2ptest.HostConfig{Resources: m})
		p2ptest.Connect(t, client, server)
		serve(t, server, archive(entries(50)...), store.ServerConfig{})
		c := store.NewClient(client, fast)
		_, err = c.Query(t.Context(), server.ID(), store.Query{Limit: 50})
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = c.Query(t.Context(), server.ID(), store.Query{Limit: 1})
		require.NoError(t, err)
	})
}

// Two hundred clients, two on a host, page at once while messages come in.
func TestManyClients(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const clients, messages = 200, 300
		hosts := p2ptest.Hosts(t, clients/2+1)
		p2ptest.Star(t, hosts)
		a := archive(entries(messages)...)
		s := serve(t, hosts[0], a, store.ServerConfig{})
		var wg sync.WaitGroup
		for i := range clients {
			h := hosts[1+i/2]
			wg.Go(func() {
				c := store.NewClient(h, store.ClientConfig{})
				n := 0
				for _, err := range c.All(t.Context(), hosts[0].ID(), store.Query{Limit: 50, End: at(messages), Backward: i%2 == 0}) {
					if err != nil {
						t.Error(err)
						return
					}
					n++
				}
				if n != messages {
					t.Errorf("%d messages", n)
				}
			})
			a.put(entry(messages + i))
		}
		wg.Wait()
		require.Equal(t, store.ServerStats{Success: clients * 6, Entries: clients * messages, Bytes: s.Stats().Bytes}, s.Stats())
	})
}

// What goes out on a slow link is cut off in time.
func TestAnswerNotRead(t *testing.T) {
	pair(t, func(t *testing.T, attacker, server host.Host) {
		var list []store.Entry
		for i := range 50 {
			list = append(list, large(i))
		}
		s := serve(t, server, archive(list...), store.ServerConfig{Rate: -1, PageBytes: 8 << 20})
		st, err := p2ptest.OpenStream(t.Context(), attacker, server.ID(), store.ID)
		require.NoError(t, err)
		defer st.Reset()
		require.NoError(t, wire.WriteFrame(st, unhex("0a0131 1001 a80364")))
		time.Sleep(31 * time.Second)
		require.Equal(t, uint64(1), s.Stats().Failed)
	})
}

// An archive that is slow and answers gets its time, and those who wait theirs:
// eight seconds, so that with the rest of what may take time they have an answer
// before a client's patience ends.
func TestServerBusyArchive(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const clients = 20
		hosts := p2ptest.Hosts(t, clients+1)
		p2ptest.Star(t, hosts)
		serve(t, hosts[0], source(func(context.Context, store.Query) (store.Page, error) {
			time.Sleep(600 * time.Millisecond)
			return store.Page{}, nil
		}), store.ServerConfig{Rate: -1, Queries: 1})
		var wg sync.WaitGroup
		var answered atomic.Int64
		began := time.Now()
		for _, h := range hosts[1:] {
			wg.Go(func() {
				_, err := store.NewClient(h, fast).Query(t.Context(), hosts[0].ID(), store.Query{})
				if err == nil {
					answered.Add(1)
					return
				}
				assert.ErrorIs(t, err, store.ErrUnavailable)
				assert.Equal(t, 8*time.Second, time.Since(began))
			})
		}
		wg.Wait()
		require.Equal(t, int64(14), answered.Load(), "one at once and thirteen within 7.8 s")
	})
}

// Half requests and answers that nobody reads don't keep others out.
func TestHalfRequests(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const attackers, each = 64, 16
		hosts := p2ptest.Hosts(t, attackers+2)
		p2ptest.Star(t, hosts)
		server, honest := hosts[0], hosts[1]
		s := serve(t, server, archive(entries(10)...), store.ServerConfig{})
		for _, a := range hosts[2:] {
			for range each {
				st, err := p2ptest.OpenStream(t.Context(), a, server.ID(), store.ID)
				if err == nil {
					st.Write([]byte{100})
				}
			}
		}
		synctest.Wait()
		require.Equal(t, uint64(attackers*(each-8)), s.Stats().Failed)
		require.Len(t, collect(t, store.NewClient(honest, fast), server, store.Query{}), 10)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, uint64(attackers*each), s.Stats().Failed, "they are gone")
	})
}

// Requests that are too long cost as much as others.
func TestLongRequestsAreCounted(t *testing.T) {
	pair(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, archive(entries(10)...), store.ServerConfig{})
		const n = 100
		answered := 0
		for range n {
			st, err := p2ptest.OpenStream(t.Context(), client, server.ID(), store.ID)
			require.NoError(t, err)
			if wire.WriteFrame(st, make([]byte, 70_000)) == nil && st.CloseWrite() == nil {
				if b, err := wire.ReadFrame(st, 1000); err == nil {
					require.Equal(t, uint64(400), parse(t, b).code)
					answered++
				}
			}
			st.Reset()
			synctest.Wait()
		}
		require.Equal(t, store.DefaultServerBurst, answered)
		require.Equal(t, uint64(answered), s.Stats().BadRequest)
		require.Equal(t, uint64(n), s.Stats().Failed)
	})
}
