package dnsdisc_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
)

// cached returns a list with two trees, and its binary form.
func cached(t testing.TB) (*dnsdisc.List, *dnstest.Zone, []byte) {
	t.Helper()
	records := newRecords(t, 20)
	linked := publish(t, newKey(t), "linked.example.org", dnstest.Content{Seq: 3, Records: records[15:]})
	tree := publish(t, newKey(t), domain, dnstest.Content{
		Seq: 2, Records: records[:16], Links: []string{linked.URL}, Leaves: []string{"rubbish, but signed for by somebody", "line\nbreak"},
	})
	zone := dnstest.NewZone(tree, linked)
	now := time.Unix(1_700_000_000, 0)
	client := dnsdisc.New(dnsdisc.Config{Resolver: zone, Now: func() time.Time { return now }})
	list, err := client.Fetch(t.Context(), tree.URL, nil)
	require.NoError(t, err)
	data, err := list.MarshalBinary()
	require.NoError(t, err)
	return list, zone, data
}

func TestCache(t *testing.T) {
	list, zone, data := cached(t)
	restored := new(dnsdisc.List)
	require.NoError(t, restored.UnmarshalBinary(data))
	require.Equal(t, texts(list.Records), texts(restored.Records))
	require.Equal(t, list.URL, restored.URL)
	require.Equal(t, list.Root, restored.Root)
	require.EqualValues(t, 2, restored.Seq)
	require.True(t, list.Read.Equal(restored.Read))
	again, err := restored.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, string(data), string(again))

	// Nothing is asked for that is in it, but for the line break, which isn't.
	asked := zone.Lookups()
	next, err := fetch(t, zone, list.URL, restored)
	require.NoError(t, err)
	require.Equal(t, texts(list.Records), texts(next.Records))
	require.Equal(t, list.Refused, next.Refused)
	require.Equal(t, asked+3, zone.Lookups())
}

// Whatever is changed in the cache, no record appears that wasn't in it.
func TestCacheIsVerified(t *testing.T) {
	list, _, data := cached(t)
	refuse := func(data string) {
		t.Helper()
		require.ErrorIs(t, new(dnsdisc.List).UnmarshalBinary([]byte(data)), dnsdisc.ErrCache)
	}
	refuse("")
	refuse("enrtrees 1 0\n")
	refuse(strings.Replace(string(data), "enrtrees 1", "enrtrees 2", 1))
	refuse(strings.Replace(string(data), "seq=2", "seq=9", 1))
	refuse(strings.Replace(string(data), list.URL, urls[0], 1))
	refuse(string(data[:len(data)-1]))
	refuse(string(data) + strings.Repeat("\n", dnsdisc.MaxCacheSize))

	stranger := newRecord(t, newKey(t), 1).String()
	more := new(dnsdisc.List)
	require.NoError(t, more.UnmarshalBinary(bytes.Replace(data, []byte("\nenr:"), []byte("\n"+stranger+"\nenr:"), 1)))
	require.Equal(t, texts(list.Records), texts(more.Records))
	swapped := new(dnsdisc.List)
	require.NoError(t, swapped.UnmarshalBinary(bytes.Replace(data, []byte(list.Records[3].String()), []byte(stranger), 1)))
	require.Len(t, swapped.Records, 19)
	require.NotContains(t, texts(swapped.Records), stranger)
	require.Equal(t, 2, swapped.Failed) // and the line break

	// Nor does a tree that isn't linked to.
	_, _, other := cached(t)
	both := new(dnsdisc.List)
	require.NoError(t, both.UnmarshalBinary(append(bytes.Clone(data), other[bytes.IndexByte(other, '\n')+1:]...)))
	again, err := both.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, string(data), string(again))

	unchanged := *list
	require.Error(t, list.UnmarshalBinary([]byte("x")))
	require.Equal(t, unchanged, *list)
	_, err = new(dnsdisc.List).MarshalBinary()
	require.Error(t, err)
}
