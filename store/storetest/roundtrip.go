package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// special are messages with something about them that gets lost easily.
func special(now time.Time) map[string]*message.Message {
	plain := func() *message.Message {
		return &message.Message{Payload: []byte("hello"), ContentTopic: topics[0], Timestamp: now.UnixNano()}
	}
	all := map[string]*message.Message{"plain": plain()}
	add := func(name string, change func(m *message.Message)) {
		m := plain()
		m.Payload = []byte(name) // another hash
		change(m)
		all[name] = m
	}
	add("version 1", func(m *message.Message) { m.Version = 1 })
	add("version 4294967295", func(m *message.Message) { m.Version = 1<<32 - 1 })
	add("meta", func(m *message.Message) { m.Meta = payload(1, message.MaxMetaLen) })
	add("meta of zeros", func(m *message.Message) { m.Meta = make([]byte, 3) })
	add("proof", func(m *message.Message) { m.RateLimitProof = payload(2, 300) })
	add("everything", func(m *message.Message) {
		m.Version, m.Meta, m.RateLimitProof = 1, []byte{0xff}, []byte{0}
	})
	fields := []message.Fields{
		message.FieldVersion, message.FieldMeta, message.FieldRateLimitProof, message.FieldEphemeral,
	}
	var each message.Fields
	for _, f := range fields {
		each |= f
		add(fmt.Sprintf("field %b is there and zero", f), func(m *message.Message) { m.Explicit = f })
	}
	add("all fields are there and zero", func(m *message.Message) { m.Explicit = each })
	for name, topic := range map[string]string{
		"zero byte":    "/a\x00b/1/c/proto",
		"backslash":    `/a\x00\b/1/c/proto`,
		"quotes":       `/it's "quoted"/1/c/proto`,
		"wildcards":    "/%/_/*/?",
		"newline":      "/a\r\n/1/c/proto",
		"no slash":     "topic",
		"space":        " ",
		"beyond BMP":   "/𝕬𝖕𝖕/1/🐟/proto",
		"not composed": "/e\u0301/1/c/proto",
		"composed":     "/\u00e9/1/c/proto",
		"end of UTF-8": "\U0010ffff\ufffd",
		"long":         "/" + fmt.Sprintf("%x", payload(3, 20_000)),
	} {
		add("topic "+name, func(m *message.Message) { m.ContentTopic = topic })
	}
	add("one byte", func(m *message.Message) { m.Payload = []byte{0} })
	add("zeros", func(m *message.Message) { m.Payload = make([]byte, 5000) })
	add("not text", func(m *message.Message) { m.Payload = []byte("\x00\xff\xfe'\\\"") })
	add("150 KiB", func(m *message.Message) { m.Payload = payload(4, 150<<10) })
	add("1 MiB", func(m *message.Message) {
		m.Payload = payload(5, message.LargeMaxSize-200)
		m.Payload = payload(5, len(m.Payload)+message.LargeMaxSize-m.Size())
	})
	add("earliest", func(m *message.Message) { m.Timestamp = 1 })
	add("latest", func(m *message.Message) { m.Timestamp = now.Add(store.MaxFuture).UnixNano() })
	add("last nanosecond", func(m *message.Message) { m.Timestamp = now.Truncate(time.Second).UnixNano() - 1 })
	return all
}

// roundTrip: what comes out is what went in, to the byte.
func roundTrip(e *env) {
	a := e.open(store.Policy{})
	all := special(e.clock.Now())
	assert.Equal(e, message.LargeMaxSize, all["1 MiB"].Size(), "the suite's own largest message")
	var list []store.Entry
	for _, m := range all {
		for _, s := range []sharding.Shard{{}, shardA, shardC} {
			if m.Size() > 1000 && s != shardA {
				continue
			}
			list = append(list, store.NewEntry(s, m))
		}
	}
	e.put(a, list...)
	check := func(a store.Archive) {
		e.Helper()
		e.holds(a, list)
		for name, m := range all {
			x := store.NewEntry(shardA, m)
			got := e.page(a, store.Query{Hashes: []message.Hash{x.Hash}})
			e.same([]store.Entry{x}, got.Entries, name)
			e.sameFields(name, m, got.Entries[0].Message)
			if strings.HasPrefix(name, "topic ") {
				got := e.page(a, store.Query{Shard: new(shardA), ContentTopics: []string{m.ContentTopic}})
				e.same([]store.Entry{x}, got.Entries, name)
			}
		}
	}
	check(a)
	check(e.reopen(a, store.Policy{}))
}

// sameFields spells out what equal encodings mean.
func (e *env) sameFields(about string, want, got *message.Message) {
	e.Helper()
	assert.Equal(e, want.Payload, got.Payload, about)
	assert.Equal(e, want.ContentTopic, got.ContentTopic, about)
	assert.Equal(e, want.Version, got.Version, about)
	assert.Equal(e, want.Timestamp, got.Timestamp, about)
	assert.Equal(e, string(want.Meta), string(got.Meta), about)
	assert.Equal(e, string(want.RateLimitProof), string(got.RateLimitProof), about)
	assert.False(e, got.Ephemeral, about)
	assert.Equal(e, want.Explicit, got.Explicit, about)
}

// reopen: what was acknowledged is there when the archive is opened again.
func reopen(e *env) {
	a := e.open(store.Policy{})
	var list []store.Entry
	for range 5 {
		more := e.entries(30, shardA, e.clock.Now().Add(-time.Hour), time.Second)
		require.NoError(e, a.Put(e.ctx, more)) // Close needs no Flush
		list = append(list, more...)
		a = e.reopen(a, store.Policy{})
		require.NoError(e, a.Flush(e.ctx))
		e.holds(a, list)
	}
}
