package store_test

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

// liar answers with a page, whatever the question.
func liar(h host.Host, p store.Page) {
	answerBy(h, func([]byte) []byte { return store.AppendResponse("", 200, "OK", p) })
}

// A peer whose answer isn't one to the question is named, with the reason.
func TestLies(t *testing.T) {
	list := entries(10)
	with := func(change func(e *store.Entry)) store.Page {
		out := slices.Clone(list[2:6])
		out[2].Message = out[2].Message.Clone()
		change(&out[2])
		return store.Page{Entries: out}
	}
	rehash := func(e *store.Entry) { *e = store.NewEntry(e.Shard, e.Message) }
	range_ := store.Query{Shard: &shard, Start: at(2), End: at(9), Limit: 8}
	topics := store.Query{Shard: &shard, ContentTopics: []string{topicA, topicB}}
	lookup := store.Query{Hashes: hashes(list[:6])}
	page := func(list ...store.Entry) store.Page { return store.Page{Entries: list} }
	for name, c := range map[string]struct {
		q    store.Query
		page store.Page
		want error
	}{
		"wrong hash":          {range_, with(func(e *store.Entry) { e.Hash[7]++ }), store.ErrWrongHash},
		"wrong payload":       {range_, with(func(e *store.Entry) { e.Message.Payload[0]++ }), store.ErrWrongHash},
		"wrong meta":          {range_, with(func(e *store.Entry) { e.Message.Meta = nil }), store.ErrWrongHash},
		"wrong shard":         {store.Query{}, with(func(e *store.Entry) { e.Shard = other }), store.ErrWrongHash},
		"another shard":       {range_, with(func(e *store.Entry) { e.Shard = other; rehash(e) }), store.ErrNotAsked},
		"another topic":       {topics, with(func(e *store.Entry) { e.Message.ContentTopic = "/a/1/b/c"; rehash(e) }), store.ErrNotAsked},
		"too early":           {range_, page(list[1], list[2]), store.ErrNotAsked},
		"too late":            {store.Query{End: at(3)}, page(list[3], list[4]), store.ErrNotAsked},
		"another hash":        {lookup, page(list[5], list[6]), store.ErrNotAsked},
		"another hash, bare":  {store.Query{Hashes: hashes(list[:6]), HashesOnly: true}, page(store.Entry{Hash: list[7].Hash}), store.ErrNotAsked},
		"descending":          {range_, page(list[4], list[3]), store.ErrOrder},
		"a double":            {range_, page(list[3], list[3]), store.ErrOrder},
		"a double, bare":      {store.Query{HashesOnly: true}, page(store.Entry{Hash: list[3].Hash}, store.Entry{Hash: list[3].Hash}), store.ErrOrder},
		"a double, looked up": {lookup, page(list[3], list[3]), store.ErrOrder},
		"the cursor's":        {store.Query{Cursor: &list[3].Hash}, page(list[3], list[4]), store.ErrOrder},
		"too many":            {store.Query{Limit: 9}, page(list...), store.ErrTooMany},
		"the same cursor":     {store.Query{Cursor: &list[3].Hash}, store.Page{Entries: list[4:], Cursor: &list[3].Hash}, store.ErrEndless},
		"no message":          {range_, page(store.Entry{Hash: list[3].Hash}), store.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, client, server host.Host) {
				liar(server, c.page)
				cl := store.NewClient(client, fast)
				check := func(err error) {
					var e *store.AnswerError
					require.ErrorAs(t, err, &e)
					require.ErrorIs(t, err, c.want)
					require.Equal(t, server.ID(), e.Peer)
				}
				_, err := cl.Query(t.Context(), server.ID(), c.q)
				check(err)
				w, err := cl.Walk(c.q)
				require.NoError(t, err)
				if c.q.Limit == 0 && c.want == store.ErrTooMany {
					return
				}
				got, more, err := w.Next(t.Context(), server.ID())
				require.Empty(t, got)
				require.True(t, more)
				check(err)
			})
		})
	}
}

func TestMalformedAnswers(t *testing.T) {
	good := store.AppendResponse("", 200, "OK", store.Page{Entries: entries(3), Cursor: new(entry(2).Hash)})
	noTopic := func() []byte { // the message alone
		e := entry(1)
		kv := append([]byte{0x0a, 32}, e.Hash[:]...)
		kv = protowire.AppendBytes(append(kv, 0x12), e.Message.Encode())
		return protowire.AppendBytes(unhex("50c801 a201"), kv)
	}
	for name, b := range map[string][]byte{
		"cut short":          good[:len(good)-1],
		"text":               []byte("HTTP/1.1 200 OK"),
		"another id":         append(unhex("0a0178"), good[2:]...),
		"no hash":            unhex("50c801 a20100"),
		"a short hash":       unhex("50c801 a201030a0111"),
		"a short cursor":     unhex("50c801 9a030111"),
		"a number for text":  unhex("0801 50c801"),
		"text for a number":  unhex("52023230"),
		"a number for bytes": unhex("50c801 a00101"),
		"a damaged message":  append(unhex("50c801 a20124 0a20"), append(make([]byte, 32), unhex("1205")...)...),
		"no topic":           noTopic(),
		"a frame too long":   nil, // see below
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, client, server host.Host) {
				answerBy(server, func([]byte) []byte { return b })
				c := store.NewClient(client, fast)
				if b == nil {
					answerBy(server, func([]byte) []byte { return make([]byte, store.DefaultMaxAnswer+1) })
				}
				_, err := c.Query(t.Context(), server.ID(), store.Query{})
				if b == nil {
					require.ErrorIs(t, err, store.ErrTooLarge)
					return
				}
				var e *store.AnswerError
				require.ErrorAs(t, err, &e)
				require.ErrorIs(t, err, store.ErrMalformed)
			})
		})
	}
}

// What honest peers do differently.
func TestTolerated(t *testing.T) {
	list := entries(10)
	notUTF8 := store.NewEntry(shard, &message.Message{Payload: []byte("x"), ContentTopic: "\xff", Timestamp: at(4).UnixNano() + 1})
	empty := store.NewEntry(shard, &message.Message{ContentTopic: topicA, Timestamp: at(4).UnixNano() + 2})
	for name, c := range map[string]struct {
		q    store.Query
		page store.Page
		want []store.Entry
	}{
		"an inclusive end":    {store.Query{End: at(5)}, store.Page{Entries: list[3:6]}, list[3:5]},
		"lookup in disorder":  {store.Query{Hashes: hashes(list)}, store.Page{Entries: []store.Entry{list[3], list[1], list[2]}}, list[1:4]},
		"nonsense published":  {store.Query{}, store.Page{Entries: []store.Entry{list[4], notUTF8, empty, list[5]}}, list[4:6]},
		"a cursor of zeros":   {store.Query{}, store.Page{Entries: list, Cursor: new(message.Hash)}, list},
		"messages not wanted": {store.Query{HashesOnly: true}, store.Page{Entries: list[:1]}, []store.Entry{{Hash: list[0].Hash}}},
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, client, server host.Host) {
				liar(server, c.page)
				got, err := store.NewClient(client, fast).Query(t.Context(), server.ID(), c.q)
				require.NoError(t, err)
				require.Equal(t, store.Page{Entries: c.want}, got)
			})
		})
	}
}

// Only what isn't genuine counts as dropped, and once.
func TestDropped(t *testing.T) {
	list := entries(10)
	notUTF8 := store.NewEntry(shard, &message.Message{Payload: []byte("x"), ContentTopic: "\xff", Timestamp: at(4).UnixNano() + 1})
	empty := store.NewEntry(shard, &message.Message{ContentTopic: topicA, Timestamp: at(4).UnixNano() + 2})
	m := &message.Message{Payload: []byte("x"), ContentTopic: topicA, Timestamp: at(4).UnixNano() + 3}
	const named = "/waku/2/default-waku/proto"
	elsewhere := store.AppendResponse("", 200, "OK", store.Page{Entries: []store.Entry{{Shard: shard, Message: m, Hash: m.Hash(named)}}})
	elsewhere = renamed(elsewhere, shard.PubsubTopic(), named)
	page := func(list ...store.Entry) []byte {
		return store.AppendResponse("", 200, "OK", store.Page{Entries: list})
	}
	refuseB := store.ClientConfig{Rate: -1, Verify: func(_ string, m *message.Message) error {
		if m.ContentTopic == topicB {
			return context.Canceled
		}
		return nil
	}}
	for name, c := range map[string]struct {
		q       store.Query
		answer  []byte
		dropped uint64
	}{
		"an inclusive end":         {store.Query{End: at(6)}, page(list[2], list[4], list[6]), 0},
		"a refused one at the end": {store.Query{End: at(5)}, page(list[4], list[5]), 0},
		"a named topic":            {store.Query{}, elsewhere, 0},
		"refused":                  {store.Query{End: at(9)}, page(list...), 4},
		"refused, looked up":       {store.Query{Hashes: hashes(list)}, page(list...), 5},
		"nonsense published":       {store.Query{}, page(list[4], notUTF8, empty, list[6]), 2},
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, client, server host.Host) {
				answerBy(server, func([]byte) []byte { return c.answer })
				cl := store.NewClient(client, refuseB)
				_, err := cl.Query(t.Context(), server.ID(), c.q)
				require.NoError(t, err)
				require.Equal(t, c.dropped, cl.Dropped())
				w, err := cl.Walk(c.q)
				require.NoError(t, err)
				_, _, err = w.Next(t.Context(), server.ID())
				require.NoError(t, err)
				require.Equal(t, c.dropped, w.Dropped())
				require.Equal(t, 2*c.dropped, cl.Dropped())
			})
		})
	}
	for _, back := range []bool{false, true} { // what comes again because a cursor was unknown
		pair(t, func(t *testing.T, client, server host.Host) {
			a, asked := archive(ties(300)...), 0
			serve(t, server, source(func(ctx context.Context, q store.Query) (store.Page, error) {
				if asked++; q.Cursor != nil && asked%2 == 0 {
					return store.Page{}, store.ErrUnknownCursor
				}
				return a.Query(ctx, q)
			}), store.ServerConfig{Rate: -1})
			cl := store.NewClient(client, refuseB)
			require.Len(t, collect(t, cl, server, store.Query{Limit: 15, Backward: back}), 150)
			require.EqualValues(t, 150, cl.Dropped())
		})
	}
}

// renamed is an answer of one entry with another pubsub topic.
func renamed(answer []byte, from, to string) []byte {
	var out []byte
	for len(answer) > 0 {
		num, typ, n := protowire.ConsumeTag(answer)
		size := protowire.ConsumeFieldValue(num, typ, answer[n:])
		field := answer[n : n+size]
		out = protowire.AppendTag(out, num, typ)
		switch b, _ := protowire.ConsumeBytes(field); {
		case typ == protowire.BytesType && num == 20:
			out = protowire.AppendBytes(out, renamed(b, from, to))
		case typ == protowire.BytesType && string(b) == from:
			out = protowire.AppendBytes(out, []byte(to))
		default:
			out = append(out, field...)
		}
		answer = answer[n+size:]
	}
	return out
}

// endless answers every question with something and a cursor.
func TestEndlessCursors(t *testing.T) {
	list := entries(10)
	n := 0
	fresh := func() *message.Hash { n++; return new(entry(n).Hash) }
	for name, c := range map[string]struct {
		q      store.Query
		answer func(request []byte) store.Page
		want   error
	}{
		"empty pages":      {store.Query{}, func([]byte) store.Page { return store.Page{Cursor: fresh()} }, store.ErrEndless},
		"the same page":    {store.Query{}, func([]byte) store.Page { return store.Page{Entries: list, Cursor: fresh()} }, store.ErrOrder},
		"the same, back":   {store.Query{Backward: true}, func([]byte) store.Page { return store.Page{Entries: list, Cursor: fresh()} }, store.ErrOrder},
		"the same, bare":   {store.Query{HashesOnly: true}, func([]byte) store.Page { return store.Page{Entries: list[:5], Cursor: fresh()} }, store.ErrOrder},
		"the same cursor":  {store.Query{}, func([]byte) store.Page { return store.Page{Cursor: &list[1].Hash} }, store.ErrEndless},
		"empty, looked up": {store.Query{Hashes: hashes(list)}, func([]byte) store.Page { return store.Page{Cursor: fresh()} }, store.ErrEndless},
		"the wrong way": {store.Query{}, func([]byte) store.Page {
			n--
			return store.Page{Entries: []store.Entry{entry(1000 + n)}, Cursor: new(entry(1000 + n).Hash)}
		}, store.ErrOrder},
		"the wrong way too": {store.Query{Backward: true}, func([]byte) store.Page {
			n++
			return store.Page{Entries: []store.Entry{entry(n)}, Cursor: new(entry(n).Hash)}
		}, store.ErrOrder},
	} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, client, server host.Host) {
				asked := 0
				answerBy(server, func(b []byte) []byte {
					asked++
					return store.AppendResponse("", 200, "OK", c.answer(b))
				})
				var last error
				for _, err := range store.NewClient(client, fast).All(t.Context(), server.ID(), c.q) {
					last = err
				}
				require.ErrorIs(t, last, c.want)
				require.LessOrEqual(t, asked, 3)
			})
		})
	}
}

// A round of hashes is found out, however long it is and whatever came before;
// those who don't go round aren't suspected.
func TestRoundOfHashes(t *testing.T) {
	for _, c := range []struct{ before, round, most int }{
		{0, 4200, 3 * 4200}, {0, 5000, 3 * 5000}, {9000, 5000, 2*9000 + 5000}, {20_000, 0, 20_000},
	} {
		n := 0
		next := func() (h message.Hash, ok bool) {
			i := n
			if n++; i >= c.before {
				if c.round == 0 {
					return h, false
				}
				i = c.before + (i-c.before)%c.round
			}
			binary.BigEndian.PutUint64(h[:], uint64(i+1))
			return h, true
		}
		pair(t, func(t *testing.T, client, server host.Host) {
			serve(t, server, source(func(_ context.Context, q store.Query) (p store.Page, _ error) {
				for range q.Limit {
					h, ok := next()
					if !ok {
						p.Cursor = nil
						break
					}
					p.Entries, p.Cursor = append(p.Entries, store.Entry{Hash: h}), &h
				}
				return p, nil
			}), store.ServerConfig{Rate: -1})
			got, last := 0, error(nil)
			for _, err := range store.NewClient(client, fast).All(t.Context(), server.ID(), store.Query{HashesOnly: true}) {
				if last = err; err == nil {
					got++
				}
			}
			require.LessOrEqual(t, got, c.most)
			if c.round == 0 {
				require.NoError(t, last)
				require.Equal(t, c.before, got)
				return
			}
			require.ErrorIs(t, last, store.ErrEndless)
			require.GreaterOrEqual(t, got, c.round)
		})
	}
}

// Messages that Verify refuses are left out; if there is nothing else, the peer is
// left.
func TestVerify(t *testing.T) {
	const length = 25_000
	places := map[message.Hash]int{}
	pair(t, func(t *testing.T, client, server host.Host) {
		serve(t, server, source(func(_ context.Context, q store.Query) (store.Page, error) {
			i, step := 0, 1
			if len(q.ContentTopics) > 0 { // B's, which are every other one
				i, step = 1, 2
			}
			if q.Cursor != nil {
				i = places[*q.Cursor] + step
			}
			var p store.Page
			for ; len(p.Entries) < q.Limit; i += step {
				e := entry(i)
				if _, end := q.Bounds(); e.Message.Timestamp >= end || i >= length {
					return p, nil
				}
				p.Entries = append(p.Entries, e)
				places[e.Hash], p.Cursor = i, &e.Hash
			}
			return p, nil
		}), store.ServerConfig{Rate: -1})
		forged := func(topic string, m *message.Message) error {
			require.Equal(t, shard.PubsubTopic(), topic)
			if m.ContentTopic == topicB {
				return context.Canceled
			}
			return nil
		}
		c := store.NewClient(client, store.ClientConfig{Rate: -1, Verify: forged})
		c.SetMaxRun(5000)
		w, err := c.Walk(store.Query{End: at(1000)})
		require.NoError(t, err)
		n := 0
		for more := true; more; {
			var got []store.Entry
			got, more, err = w.Next(t.Context(), server.ID())
			require.NoError(t, err)
			n += len(got)
		}
		require.Equal(t, 500, n)
		require.Equal(t, uint64(500), w.Dropped())
		require.Equal(t, uint64(500), c.Dropped())
		p, err := c.Query(t.Context(), server.ID(), store.Query{Limit: 3})
		require.NoError(t, err)
		require.Equal(t, []store.Entry{entry(0), entry(2)}, p.Entries)
		require.Equal(t, entry(2).Hash, *p.Cursor)

		start := time.Now()
		n, err = 0, nil
		for _, err = range c.All(t.Context(), server.ID(), store.Query{Shard: &shard, ContentTopics: []string{topicB}, End: at(10_000)}) {
			n++
		}
		require.NoError(t, err, "5,000 in a row are allowed")
		require.Zero(t, n)

		for _, err = range c.All(t.Context(), server.ID(), store.Query{Shard: &shard, ContentTopics: []string{topicB}}) {
			n++
		}
		require.ErrorIs(t, err, store.ErrUnverified)
		require.Equal(t, 1, n, "the error alone")
		require.Zero(t, time.Since(start))

		// By default it takes far more, which honest stores have of a retired key.
		n, err = 0, nil
		c = store.NewClient(client, store.ClientConfig{Rate: -1, Verify: forged})
		for _, err = range c.All(t.Context(), server.ID(), store.Query{Shard: &shard, ContentTopics: []string{topicB}}) {
			n++
		}
		require.NoError(t, err)
		require.Zero(t, n)
	})
}
