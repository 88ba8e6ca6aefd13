package metadata_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/metadata"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

func info(cluster uint16, shards ...uint16) metadata.Info {
	return metadata.Info{Cluster: cluster, HasCluster: true, Shards: shards}
}

func upTo(n int) []uint16 {
	all := make([]uint16, n)
	for i := range all {
		all[i] = uint16(i)
	}
	return all
}

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		in   metadata.Info
		want string
	}{
		{info(16, 32, 64), "08 10 | 10 20 10 40 | 1a 02 20 40"},
		{info(16, 64, 32, 64, 1024, 65535), "08 10 | 10 20 10 40 | 1a 02 20 40"},
		{info(0), "08 00"},
		{info(65535, 1023), "08 ff ff 03 | 10 ff 07 | 1a 02 ff 07"},
		{metadata.Info{Shards: []uint16{0}}, "10 00 | 1a 01 00"},
		{metadata.Info{}, ""},
	} {
		require.Equal(t, unhex(c.want), c.in.Encode(), "%+v", c.in)
	}
}

// What each implementation writes.
func TestDecode(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want metadata.Info
	}{
		"nwaku and this package":  {"08 10 | 10 20 10 40 | 1a 02 20 40", info(16, 32, 64)},
		"go-waku 0.10":            {"08 10 | 1a 02 20 40", info(16, 32, 64)},
		"go-waku 0.9":             {"08 10 | 12 02 20 40", info(16, 32, 64)},
		"js-waku":                 {"08 10", info(16)},
		"js-waku with shards":     {"08 10 | 10 20 10 40", info(16, 32, 64)},
		"field 3 unpacked":        {"08 10 | 18 20 18 40", info(16, 32, 64)},
		"the two fields differ":   {"08 10 | 10 20 | 1a 01 40", info(16, 32, 64)},
		"disorder and duplicates": {"1a 03 40 20 40 | 08 10 | 12 01 20", info(16, 32, 64)},
		"beyond 1023":             {"08 10 | 1a 0a 80 08 ff 07 ff ff ff ff 0f 20", info(16, 32, 1023)},
		"no cluster":              {"1a 01 20", metadata.Info{Shards: []uint16{32}}},
		"cluster 0":               {"08 00", info(0)},
		"the last cluster counts": {"08 01 08 10", info(16)},
		"unknown fields":          {"08 10 | 22 03 61 62 63 | 28 05", info(16)},
		"nothing":                 {"", metadata.Info{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := metadata.Decode(unhex(c.in))
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"cut short":          "08",
		"field 0":            "00 00",
		"wrong wire type":    "0b",
		"length beyond end":  "1a 05 20",
		"endless varint":     "08 ff ff ff ff ff ff ff ff ff ff ff",
		"half a packed item": "1a 01 80",
		"text":               hex.EncodeToString([]byte("not a message at all")),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := metadata.Decode(unhex(in))
			require.ErrorIs(t, err, metadata.ErrMalformed)
		})
	}
	_, err := metadata.Decode(make([]byte, metadata.MaxRead+1))
	require.ErrorIs(t, err, metadata.ErrMalformed)

	_, err = metadata.Decode(unhex("08 80 80 04"))
	var cluster *metadata.ClusterError
	require.ErrorAs(t, err, &cluster)
	require.Equal(t, uint32(65536), cluster.Cluster)
}

// numbers returns the entries of one field, packed or not, as they stand.
func numbers(t *testing.T, b []byte, field protowire.Number) (packed, unpacked []uint16) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		b = b[n:]
		v := b[:protowire.ConsumeFieldValue(num, typ, b)]
		b = b[len(v):]
		if num != field {
			continue
		}
		if typ == protowire.VarintType {
			x, _ := protowire.ConsumeVarint(v)
			unpacked = append(unpacked, uint16(x))
			continue
		}
		for v, _ = protowire.ConsumeBytes(v); len(v) > 0; {
			x, n := protowire.ConsumeVarint(v)
			packed = append(packed, uint16(x))
			v = v[n:]
		}
	}
	return packed, unpacked
}

// However many shards there are, nwaku can read the message, field 3 says as
// much as fits, and field 2 says the beginning of it.
func TestEncodeCutsShort(t *testing.T) {
	for n := 0; n <= 1024; n++ {
		b := info(65535, upTo(n)...).Encode()
		require.LessOrEqual(t, len(b), metadata.MaxWritten)
		packed3, unpacked3 := numbers(t, b, 3)
		packed2, unpacked2 := numbers(t, b, 2)
		require.Empty(t, unpacked3)
		require.Empty(t, packed2)
		require.True(t, slices.Equal(packed3, upTo(len(packed3))), "lowest first")
		require.True(t, slices.Equal(unpacked2, upTo(len(unpacked2))))
		switch {
		case n <= 200:
			require.Len(t, unpacked2, n)
			fallthrough
		case n <= 570:
			require.Len(t, packed3, n)
		default:
			require.GreaterOrEqual(t, len(packed3), 500)
			require.GreaterOrEqual(t, len(b), metadata.MaxWritten-3, "as much as fits")
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"08 10 | 10 20 10 40 | 1a 02 20 40", "08 10 | 12 02 20 40", "18 20 18 40", "08 80 80 04", "1a 01 80", "",
	} {
		f.Add(unhex(s))
	}
	f.Add(bytes.Repeat([]byte{0x10, 0x01}, 5000))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := metadata.Decode(b)
		if err != nil {
			require.Zero(t, got)
			return
		}
		require.True(t, slices.IsSorted(got.Shards))
		encoded := got.Encode()
		require.LessOrEqual(t, len(encoded), metadata.MaxWritten)
		again, err := metadata.Decode(encoded)
		require.NoError(t, err)
		if len(got.Shards) <= 200 {
			require.Equal(t, got, again)
		}
	})
}
