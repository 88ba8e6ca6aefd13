package sharding_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/sharding"
)

func FuzzParsePubsubTopic(f *testing.F) {
	for _, v := range readTopics(f).PubsubTopics {
		f.Add(v.Input.Topic)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		s, err := sharding.ParsePubsubTopic(topic)
		if err != nil {
			require.ErrorIs(t, err, sharding.ErrPubsubTopic)
			require.Zero(t, s)
			return
		}
		require.NoError(t, s.Valid())
		require.Equal(t, topic, s.PubsubTopic(), "one spelling")
	})
}

func FuzzParseShard(f *testing.F) {
	f.Add("16/128")
	f.Add("/waku/2/rs/16/128")
	f.Add("65536/01024")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := sharding.ParseShard(text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			require.Zero(t, s)
			return
		}
		require.NoError(t, s.Valid())
		require.Contains(t, []string{s.String(), s.PubsubTopic()}, text, "one spelling each")
	})
}

func FuzzParseContentTopic(f *testing.F) {
	for _, v := range readTopics(f).ContentTopics {
		f.Add(v.Input.Topic)
	}
	f.Fuzz(func(t *testing.T, text string) {
		topic, err := sharding.ParseContentTopic(text)
		shard, shardErr := sharding.Autoshard(text, 1, 8)
		require.Equal(t, err, shardErr)
		if err != nil {
			require.ErrorIs(t, err, sharding.ErrContentTopic)
			require.Zero(t, topic)
			return
		}
		require.Equal(t, text, topic.String(), "one spelling")
		require.Less(t, shard.Index, uint16(8))
		for _, part := range []string{topic.Application, topic.Version, topic.Name, topic.Encoding} {
			require.NotEmpty(t, part)
			require.False(t, strings.Contains(part, "/"))
		}
	})
}

func FuzzDecodeRS(f *testing.F) {
	v := readSets(f)
	for _, v := range v.RS {
		f.Add([]byte(v.Expected.Value))
	}
	for _, v := range v.Errors {
		f.Add([]byte(v.Input.Value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		set, err := sharding.DecodeRS(value)
		if err != nil {
			require.Zero(t, set)
			return
		}
		require.Equal(t, 3+2*int(value[2]), len(value))
		require.LessOrEqual(t, set.Len(), int(value[2]))
		out, err := set.EncodeRS()
		require.NoError(t, err)
		sameSet(t, set, out, sharding.DecodeRS)
		sameSet(t, set, set.EncodeRSV(), sharding.DecodeRSV)
	})
}

func FuzzDecodeRSV(f *testing.F) {
	for _, v := range readSets(f).RSV {
		f.Add([]byte(v.Expected.Value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		set, err := sharding.DecodeRSV(value)
		if err != nil {
			require.ErrorIs(t, err, sharding.ErrShardSet)
			require.NotEqual(t, 130, len(value))
			return
		}
		require.Equal(t, value, set.EncodeRSV(), "one form")
		for i := range uint16(1024) {
			bit := value[2+i/8]>>(i%8)&1 == 1
			require.Equal(t, bit, set.Contains(sharding.Shard{Cluster: set.Cluster(), Index: i}))
		}
		key, out := set.Encode()
		switch n := set.Len(); {
		case n == 0:
			require.Empty(t, key)
		case n < 64:
			require.Equal(t, sharding.KeyRS, key)
			sameSet(t, set, out, sharding.DecodeRS)
		default:
			require.Equal(t, sharding.KeyRSV, key)
			require.Equal(t, value, out)
		}
	})
}

func FuzzPartitionOf(f *testing.F) {
	for _, v := range readTopics(f).Partitioned {
		f.Add([]byte(v.Expected.Compressed), 5000)
		f.Add([]byte(v.Expected.Uncompressed), 8192)
	}
	f.Fuzz(func(t *testing.T, key []byte, n int) {
		got, err := sharding.PartitionOf(key, n)
		if err != nil {
			return
		}
		require.True(t, got >= 0 && got < n)
		short, err := sharding.PartitionOf(append([]byte{2}, key[1:33]...), n)
		require.NoError(t, err)
		require.Equal(t, short, got, "all forms of a key give one partition")
	})
}

// sameSet requires that value decodes to want.
func sameSet(t *testing.T, want sharding.Set, value []byte, decode func([]byte) (sharding.Set, error)) {
	got, err := decode(value)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
