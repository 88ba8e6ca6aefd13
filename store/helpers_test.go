package store_test

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

var (
	shard = sharding.Shard{Cluster: 16, Index: 128}
	other = sharding.Shard{Cluster: 16, Index: 129}
)

// epoch is when the first message was sent, in Unix nanoseconds.
const epoch = 1_700_000_000_000_000_000

const topicA, topicB = "/waku/1/0xaaaaaaaa/rfc26", "/waku/1/0xbbbbbbbb/rfc26"

// entry is the i-th message, one a second.
func entry(i int) store.Entry {
	topic := topicA
	if i%2 == 1 {
		topic = topicB
	}
	return store.NewEntry(shard, &message.Message{
		Payload:      binary.BigEndian.AppendUint32([]byte("message "), uint32(i)),
		ContentTopic: topic,
		Timestamp:    epoch + int64(i)*int64(time.Second),
		Meta:         []byte{byte(i)},
		Explicit:     message.FieldVersion,
	})
}

func entries(n int) []store.Entry {
	all := make([]store.Entry, n)
	for i := range all {
		all[i] = entry(i)
	}
	return all
}

func at(i int) time.Time { return time.Unix(0, epoch).Add(time.Duration(i) * time.Second) }

func hashes(list []store.Entry) []message.Hash {
	out := make([]message.Hash, len(list))
	for i, e := range list {
		out[i] = e.Hash
	}
	return out
}

// memory is an archive as simple as can be.
type memory struct {
	mu      sync.Mutex
	entries []store.Entry // ascending
	gone    map[message.Hash]store.Key
}

func archive(list ...store.Entry) *memory {
	a := &memory{gone: map[message.Hash]store.Key{}}
	a.put(list...)
	return a
}

func (a *memory) put(list ...store.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = append(a.entries, list...)
	slices.SortFunc(a.entries, func(x, y store.Entry) int { return x.Key().Compare(y.Key()) })
	a.entries = slices.CompactFunc(a.entries, func(x, y store.Entry) bool { return x.Hash == y.Hash })
}

// drop forgets the oldest n, but not where they were.
func (a *memory) drop(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.entries[:n] {
		a.gone[e.Hash] = e.Key()
	}
	a.entries = a.entries[n:]
}

func (a *memory) Query(_ context.Context, q store.Query) (store.Page, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var cursor *store.Key
	if q.Cursor != nil {
		for _, e := range a.entries {
			if e.Hash == *q.Cursor {
				cursor = new(e.Key())
			}
		}
		if k, ok := a.gone[*q.Cursor]; ok {
			cursor = &k
		}
		if cursor == nil {
			return store.Page{}, store.ErrUnknownCursor
		}
	}
	start, end := q.Bounds()
	var match []store.Entry // one more than the page has
	for i := range a.entries {
		e := a.entries[i]
		if q.Backward {
			e = a.entries[len(a.entries)-1-i]
		}
		k := e.Key()
		switch {
		case q.Shard != nil && *q.Shard != e.Shard,
			len(q.ContentTopics) > 0 && !slices.Contains(q.ContentTopics, e.Message.ContentTopic),
			len(q.Hashes) > 0 && !slices.Contains(q.Hashes, e.Hash),
			k.Time < start || k.Time >= end,
			cursor != nil && !q.Backward && k.Compare(*cursor) <= 0,
			cursor != nil && q.Backward && k.Compare(*cursor) >= 0:
			continue
		}
		if match = append(match, e); len(match) > q.Limit {
			break
		}
	}
	n, bytes := 0, 0
	for n < min(q.Limit, len(match)) && (q.MaxBytes == 0 || bytes < q.MaxBytes) {
		bytes += match[n].Message.Size()
		n++
	}
	p := store.Page{Entries: slices.Clone(match[:n])}
	if n < len(match) {
		p.Cursor = &match[n-1].Hash
	}
	if q.Backward {
		slices.Reverse(p.Entries)
	}
	return p, nil
}

// source makes a function an archive.
type source func(ctx context.Context, q store.Query) (store.Page, error)

func (s source) Query(ctx context.Context, q store.Query) (store.Page, error) { return s(ctx, q) }

// pair is a client and a server host in a bubble, connected.
func pair(t *testing.T, f func(t *testing.T, client, server host.Host)) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		p2ptest.Line(t, hosts)
		f(t, hosts[0], hosts[1])
	})
}

// serve answers on h until the test ends.
func serve(t *testing.T, h host.Host, s store.Source, cfg store.ServerConfig) *store.Server {
	server := store.NewServer(h, s, cfg)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

// answerBy lets h answer requests with bytes of its own making.
func answerBy(h host.Host, f func(request []byte) []byte) {
	h.SetStreamHandler(store.ID, func(s network.Stream) {
		b, err := wire.ReadFrame(s, 1<<20)
		if err != nil {
			s.Reset()
			return
		}
		wire.WriteFrame(s, f(b))
		s.Close()
	})
}

// fast is a client without a rate of its own.
var fast = store.ClientConfig{Rate: -1}

// collect walks through everything.
func collect(t *testing.T, c *store.Client, h host.Host, q store.Query) []store.Entry {
	t.Helper()
	var all []store.Entry
	for e, err := range c.All(t.Context(), h.ID(), q) {
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}
