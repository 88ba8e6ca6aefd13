package sharding_test

import (
	"bytes"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/sharding"
)

func TestParseShard(t *testing.T) {
	const p = "/waku/2/rs/"
	for _, tc := range []struct {
		text string
		want sharding.Shard
		ok   bool
	}{
		{"0/0", sharding.Shard{}, true},
		{"16/128", sharding.Shard{Cluster: 16, Index: 128}, true},
		{"65535/1023", sharding.Shard{Cluster: 65535, Index: 1023}, true},
		{p + "16/128", sharding.Shard{Cluster: 16, Index: 128}, true},
		{text: ""}, {text: "/"}, {text: "16"}, {text: "16/"}, {text: "/16"}, {text: "16/128/"}, {text: "/16/128"},
		{text: "16/1024"}, {text: "16/1025"}, {text: "16/9999"}, {text: "16/65535"}, {text: "16/65536"}, {text: "16/65664"},
		{text: "65536/0"}, {text: "65552/128"}, {text: "99999/0"}, {text: "100000/0"},
		{text: "16/4294967296"}, {text: "16/4294967424"}, {text: "4294967312/128"},
		{text: "16/18446744073709551616"}, {text: "18446744073709551616/128"}, {text: "16/" + strings.Repeat("9", 1000)},
		{text: "016/128"}, {text: "16/0128"}, {text: "00/0"}, {text: "0/00"},
		{text: "+16/128"}, {text: "16/+128"}, {text: "-16/128"}, {text: "16/-1"}, {text: "-0/0"},
		{text: "0x10/128"}, {text: "16/1e2"}, {text: "16/1_0"}, {text: "16/12.0"}, {text: "1６/128"}, {text: "16/١٢٨"},
		{text: " 16/128"}, {text: "16/128 "}, {text: "16 /128"}, {text: "16/128\n"}, {text: "16/128\x00"},
		{text: "16:128"}, {text: "16-128"}, {text: "16\\128"}, {text: "16//128"}, {text: "16/128/proto"},
		{text: p}, {text: p[:10]}, {text: "/waku/2/rs"}, {text: p + "/"}, {text: p + "16"}, {text: p + "16/"}, {text: p + "/128"},
		{text: "/waku/2/rs:16/128"}, {text: "/waku/2/rsX16/128"}, {text: "/waku/2/rs.16/128"}, {text: "/waku/2/rs16/128"},
		{text: "/waku/2/RS/16/128"}, {text: "/Waku/2/rs/16/128"}, {text: "/waku/02/rs/16/128"}, {text: "/waku/3/rs/16/128"},
		{text: "waku/2/rs/16/128"}, {text: "//waku/2/rs/16/128"}, {text: p + "16/128/"}, {text: p + "16/128/proto"},
		{text: p + "16/032"}, {text: p + "16/1024"}, {text: p + "65536/1"}, {text: p + "16/ 32"}, {text: p + p + "16/128"},
	} {
		t.Run(tc.text[:min(len(tc.text), 40)], func(t *testing.T) {
			got, err := sharding.ParseShard(tc.text)
			topic, topicErr := sharding.ParsePubsubTopic(tc.text)
			if !tc.ok {
				var refused *sharding.TopicError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, tc.text, refused.Text)
				assert.NotEmpty(t, refused.Reason)
				assert.Less(t, len(err.Error()), 300)
				assert.NotContains(t, err.Error(), "\n")
				assert.ErrorIs(t, topicErr, sharding.ErrPubsubTopic)
				assert.Zero(t, got)
				assert.Zero(t, topic)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
			assert.NoError(t, got.Valid())
			if strings.HasPrefix(tc.text, p) {
				require.NoError(t, topicErr)
				assert.Equal(t, tc.text, got.PubsubTopic())
			} else {
				assert.ErrorIs(t, topicErr, sharding.ErrPubsubTopic)
				assert.Equal(t, tc.text, got.String())
			}
		})
	}

	_, err := sharding.ParseShard("16")
	assert.ErrorIs(t, err, sharding.ErrShard)
	_, err = sharding.ParseShard("/waku/2/rs/16")
	assert.ErrorIs(t, err, sharding.ErrPubsubTopic)
}

func TestShardValid(t *testing.T) {
	assert.NoError(t, sharding.Shard{Cluster: 65535, Index: 1023}.Valid())
	for _, i := range []uint16{1024, 65535} {
		err := sharding.Shard{Cluster: 16, Index: i}.Valid()
		var index *sharding.IndexError
		require.ErrorAs(t, err, &index)
		assert.ErrorIs(t, err, sharding.ErrShard)
		assert.Equal(t, int(i), index.Index)
		assert.Contains(t, err.Error(), "1023")
	}
}

func TestContentTopic(t *testing.T) {
	for _, bad := range []string{
		"/00/a/1/b/c", "/01/a/1/b/c", "/18446744073709551616/a/1/b/c", "/0 /a/1/b/c", "/٠/a/1/b/c",
		"/a/1/b/c/", "//a/1/b/c/", "/0/0/a/1/b/c", "/a/1/b/\xff", "/" + strings.Repeat("/", 100_000),
	} {
		_, err := sharding.ParseContentTopic(bad)
		require.ErrorIs(t, err, sharding.ErrContentTopic, bad[:min(len(bad), 40)])
		assert.Less(t, len(err.Error()), 300)
	}
	for _, good := range []string{"/a/1/b/c", "/0/a/1/b/c", "/0/1/2/3", "/ü/ / /\x00"} {
		topic, err := sharding.ParseContentTopic(good)
		require.NoError(t, err, good)
		assert.Equal(t, good, topic.String())
	}
	assert.Equal(t, "/7/a/1/b/c", sharding.ContentTopic{
		Generation: 7, Application: "a", Version: "1", Name: "b", Encoding: "c",
	}.String(), "a generation is never lost")
}

func TestAutoshardCount(t *testing.T) {
	for _, n := range []int{-1, 0, 1025, 1 << 30} {
		_, err := sharding.Autoshard("/a/1/b/c", 1, n)
		assert.ErrorIs(t, err, sharding.ErrShardCount, n)
	}
	plain, err := sharding.Autoshard("/a/1/b/c", 7, 1024)
	require.NoError(t, err)
	explicit, err := sharding.Autoshard("/0/a/1/other/name", 7, 1024)
	require.NoError(t, err)
	assert.Equal(t, plain, explicit)
	assert.Equal(t, uint16(7), plain.Cluster)
	assert.NoError(t, plain.Valid())
}

func TestSet(t *testing.T) {
	set, err := sharding.NewSet(16, 128, 32, 1023, 0, 32)
	require.NoError(t, err)
	assert.Equal(t, 4, set.Len())
	assert.Equal(t, []uint16{0, 32, 128, 1023}, set.Indices())
	assert.Equal(t, "16/{0, 32, 128, 1023}", set.String())
	assert.True(t, set.Contains(sharding.Shard{Cluster: 16, Index: 1023}))
	assert.False(t, set.Contains(sharding.Shard{Cluster: 16, Index: 1}))
	assert.False(t, set.Contains(sharding.Shard{Cluster: 17, Index: 32}), "another cluster")
	assert.False(t, set.Contains(sharding.Shard{Cluster: 16, Index: 1024}))
	assert.False(t, set.Contains(sharding.Shard{Cluster: 16, Index: 65535}))

	before := set
	set.Remove(32, 33, 1024, 65535)
	assert.Equal(t, []uint16{0, 128, 1023}, set.Indices())
	assert.NotEqual(t, before, set)
	assert.Equal(t, 4, before.Len(), "a copy is a copy")
	require.NoError(t, set.Add(32))
	assert.True(t, before == set)

	require.ErrorIs(t, set.Add(5, 1024), sharding.ErrShard)
	assert.True(t, before == set, "all or nothing")
	_, err = sharding.NewSet(16, 1024)
	assert.ErrorIs(t, err, sharding.ErrShard)

	for shard := range set.All() {
		assert.Equal(t, sharding.Shard{Cluster: 16}, shard)
		break
	}
	assert.Nil(t, sharding.Set{}.Indices())
	assert.Equal(t, "0/{}", sharding.Set{}.String())
}

// count returns the set of shards 0 to n-1.
func count(t testing.TB, n int) sharding.Set {
	set, err := sharding.NewSet(16)
	require.NoError(t, err)
	for i := range n {
		require.NoError(t, set.Add(uint16(i)))
	}
	return set
}

func TestSetForms(t *testing.T) {
	for _, tc := range []struct {
		n    int
		key  string
		size int
	}{{0, "", 0}, {1, "rs", 5}, {63, "rs", 129}, {64, "rsv", 130}, {255, "rsv", 130}, {256, "rsv", 130}, {1024, "rsv", 130}} {
		set := count(t, tc.n)
		key, value := set.Encode()
		assert.Equal(t, tc.key, key, tc.n)
		assert.Len(t, value, tc.size, tc.n)

		rs, err := set.EncodeRS()
		if tc.n > 255 {
			assert.ErrorIs(t, err, sharding.ErrShardCount)
			continue
		}
		require.NoError(t, err)
		back, err := sharding.DecodeRS(rs)
		require.NoError(t, err)
		assert.Equal(t, set, back)
	}

	twice, err := sharding.DecodeRS([]byte{0, 16, 3, 0, 5, 0, 1, 0, 5})
	require.NoError(t, err)
	assert.Equal(t, []uint16{1, 5}, twice.Indices(), "sorted, once each")

	_, err = sharding.DecodeRS(nil)
	assert.ErrorIs(t, err, sharding.ErrShardSet)
	_, err = sharding.DecodeRSV(nil)
	assert.ErrorIs(t, err, sharding.ErrShardSet)
	var index *sharding.IndexError
	_, err = sharding.DecodeRS([]byte{0, 16, 2, 0, 1, 0xff, 0xff})
	require.ErrorAs(t, err, &index)
	assert.Equal(t, 65535, index.Index)
}

func TestRecord(t *testing.T) {
	record := map[string][]byte{"id": []byte("v4"), "rs": {1}, "rsv": {2}}
	write := func(s sharding.Set) {
		s.WriteRecord(func(k string, v []byte) { record[k] = v }, func(k string) { delete(record, k) })
	}
	read := func() (sharding.Set, error) {
		return sharding.ReadRecord(func(k string) ([]byte, bool) { v, ok := record[k]; return v, ok })
	}
	for _, n := range []int{5, 64, 63, 1024, 1} {
		write(count(t, n))
		assert.Len(t, record, 2, "id, and one of the two")
		got, err := read()
		require.NoError(t, err)
		assert.Equal(t, count(t, n), got)
	}
	write(count(t, 0))
	assert.Len(t, record, 1)
	got, err := read()
	require.NoError(t, err)
	assert.Zero(t, got)

	record["rsv"] = count(t, 64).EncodeRSV()
	record["rs"] = []byte{0, 16, 1, 0, 99}
	got, err = read()
	require.NoError(t, err)
	assert.Equal(t, []uint16{99}, got.Indices(), "rs wins")
	record["rs"] = []byte{0, 16}
	_, err = read()
	assert.ErrorIs(t, err, sharding.ErrShardSet, "even if it can't be read")
}

func TestStatusPlan(t *testing.T) {
	fleet, err := sharding.StatusFleet().EncodeRS()
	require.NoError(t, err)
	assert.Equal(t, []byte{0, 0x10, 5, 0, 1, 0, 0x20, 0, 0x40, 0, 0x80, 1, 0}, fleet)

	for _, tc := range []struct {
		purpose     sharding.Purpose
		first, last uint16
		text        string
	}{
		{sharding.Reserved, 0, 15, "reserved"},
		{sharding.LargeCommunity, 16, 127, "large community"},
		{sharding.Community, 128, 767, "community"},
		{sharding.OneToOne, 768, 895, "one-to-one"},
		{sharding.Control, 896, 1023, "control and media"},
	} {
		first, last, ok := tc.purpose.Range()
		assert.True(t, ok)
		assert.Equal(t, tc.first, first)
		assert.Equal(t, tc.last, last)
		for i := first; i <= last; i++ {
			require.Equal(t, tc.purpose, sharding.Use(i), i)
		}
		assert.Equal(t, tc.text, tc.purpose.String())
	}
	assert.Equal(t, sharding.NoPurpose, sharding.Use(1024))
	assert.Equal(t, sharding.NoPurpose, sharding.Use(65535))
	for _, p := range []sharding.Purpose{sharding.NoPurpose, sharding.Control + 1, 255} {
		_, _, ok := p.Range()
		assert.False(t, ok)
		assert.Equal(t, "none", p.String())
	}

	assert.Equal(t, sharding.LargeCommunity, sharding.Use(sharding.StatusCCShard))
	assert.Equal(t, sharding.Control, sharding.Use(sharding.StatusCCControlShard))
	assert.Equal(t, sharding.Control, sharding.Use(sharding.StatusCCMediaShard))
}

func TestPartitionOf(t *testing.T) {
	x := bytes.Repeat([]byte{0xfe, 0xdc, 0xba, 0x98}, 8)
	for _, n := range []int{1, 2, 7, 128, 5000, 8192, 1<<31 - 1} {
		want := int(new(big.Int).Mod(new(big.Int).SetBytes(x), big.NewInt(int64(n))).Int64())
		for _, prefix := range []byte{2, 3} {
			got, err := sharding.PartitionOf(append([]byte{prefix}, x...), n)
			require.NoError(t, err)
			assert.Equal(t, want, got, n)
		}
		got, err := sharding.PartitionOf(append(append([]byte{4}, x...), make([]byte, 32)...), n)
		require.NoError(t, err)
		assert.Equal(t, want, got, n)
	}

	key := append([]byte{2}, x...)
	for _, n := range []int{0, -1} {
		_, err := sharding.PartitionOf(key, n)
		assert.ErrorIs(t, err, sharding.ErrShardCount)
	}
	for _, bad := range [][]byte{
		nil, {2}, x, make([]byte, 33), make([]byte, 64), make([]byte, 65), make([]byte, 66),
		append([]byte{4}, x...), append([]byte{5}, x...),
		append([]byte{2}, make([]byte, 64)...), append([]byte{6}, make([]byte, 64)...), append([]byte{7}, make([]byte, 64)...),
	} {
		_, err := sharding.PartitionOf(bad, 5000)
		assert.ErrorIs(t, err, sharding.ErrPublicKey, "%d bytes", len(bad))
		_, err = sharding.DeployedPartition(bad)
		assert.ErrorIs(t, err, sharding.ErrPublicKey)
		_, err = sharding.PlannedPartition(bad)
		assert.ErrorIs(t, err, sharding.ErrPublicKey)
		_, err = sharding.OneToOneShard(bad)
		assert.ErrorIs(t, err, sharding.ErrPublicKey)
	}
}
