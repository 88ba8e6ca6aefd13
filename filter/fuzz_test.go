package filter_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// allocated is how many bytes f allocates, or something more.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func hostile() [][]byte {
	many := unhex("0a0131 1001 5210 2f77616b752f322f72732f31362f3332")
	return [][]byte{
		nil,
		append(many[:len(many):len(many)], bytes.Repeat([]byte{0x5a, 1, 'a'}, 40_000)...),
		bytes.Repeat([]byte{0x5a, 0}, 60_000),
		bytes.Repeat([]byte{0x52, 0}, 60_000),
		bytes.Repeat([]byte{0x0a, 0}, 60_000),
		bytes.Repeat([]byte{0x12, 0}, 60_000),
		bytes.Repeat([]byte{0xa3, 0x06}, 60_000),
		bytes.Repeat([]byte{0xff}, 20),
		append(unhex("52ffff07"), bytes.Repeat([]byte{'x'}, 1<<17-1)...),
		append(unhex("0affff07"), bytes.Repeat([]byte{'x'}, 1<<17-1)...),
	}
}

func FuzzRequest(f *testing.F) {
	for _, x := range loadVectors(f).Requests {
		f.Add(unhex(x.Hex))
	}
	for _, b := range hostile() {
		f.Add(b[:min(len(b), 500)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const most = 10
		r, tooMany, err, wrong := filter.RequestOf(b, most)
		require.LessOrEqual(t, len(r.ContentTopics), most)
		require.LessOrEqual(t, len(r.ID), 256)
		if err != nil {
			require.ErrorIs(t, err, filter.ErrMalformed)
			return
		}
		require.True(t, !tooMany || len(r.ContentTopics) == most)
		if r.Kind != 1 && r.Kind != 2 {
			r.PubsubTopic = "" // not written
		}
		again, _, err, wrongAgain := filter.RequestOf(r.Append(), most)
		require.NoError(t, err)
		require.Equal(t, r, again)
		if wrong != nil {
			require.True(t, tooMany || wrongAgain != nil)
			return
		}
		require.NoError(t, wrongAgain)
		require.NotEmpty(t, r.ID)
		require.Less(t, r.Kind, uint64(4))
		if r.PubsubTopic == "" {
			return
		}
		_, err = sharding.ParsePubsubTopic(r.PubsubTopic)
		require.NoError(t, err)
		require.NotEmpty(t, r.ContentTopics)
		for _, topic := range r.ContentTopics {
			require.True(t, utf8.ValidString(topic) && topic != "" && len(topic) <= filter.MaxTopicLen)
		}
	})
}

func FuzzResponse(f *testing.F) {
	for _, x := range loadVectors(f).Responses {
		f.Add(unhex(x.Hex))
	}
	for _, b := range hostile() {
		f.Add(b[:min(len(b), 500)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, code, desc, err := filter.ResponseOf(b)
		if err != nil {
			require.ErrorIs(t, err, filter.ErrMalformed)
			require.Zero(t, id+desc)
			return
		}
		require.LessOrEqual(t, len(desc), 256)
		id2, code2, desc2, err := filter.ResponseOf(filter.AppendResponse(id, code, desc))
		require.NoError(t, err)
		require.Equal(t, id, id2)
		require.Equal(t, code, code2)
		require.Equal(t, desc, desc2)
	})
}

func FuzzPush(f *testing.F) {
	for _, x := range loadVectors(f).Pushes {
		f.Add(unhex(x.Hex))
	}
	for _, b := range hostile() {
		f.Add(b[:min(len(b), 500)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		encoded, topic, err := filter.PushOf(b)
		if err != nil {
			require.ErrorIs(t, err, filter.ErrMalformed)
			require.Nil(t, encoded)
			return
		}
		require.NotNil(t, encoded)
		require.True(t, utf8.ValidString(topic))
		m, err := message.Decode(encoded)
		if err != nil {
			return
		}
		frame := filter.Frame(topic, m)
		size, n := binary.Uvarint(frame)
		require.Equal(t, len(frame)-n, int(size))
		require.Equal(t, cap(frame), len(frame), "just as large as it must be")
		again, topic2, err := filter.PushOf(frame[n:])
		require.NoError(t, err)
		require.Equal(t, topic, topic2)
		require.Equal(t, m.Encode(), again)
	})
}

// What is read costs no more memory than a few times its length.
func TestDecodersAllocateLittle(t *testing.T) {
	const slack = 64 << 10
	for _, b := range hostile() {
		limit := uint64(4*len(b) + slack)
		require.LessOrEqual(t, allocated(func() { filter.RequestOf(b, 100) }), limit)
		require.LessOrEqual(t, allocated(func() { filter.ResponseOf(b) }), limit)
		require.LessOrEqual(t, allocated(func() { filter.PushOf(b) }), limit)
	}
}
