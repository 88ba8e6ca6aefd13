package dnsdisc_test

import (
	"flag"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
)

// A tree is published again and again, its names fail and recover, the reader
// restarts: what it holds is what was published, as far as it could be read.
func TestModel(t *testing.T) {
	if raceEnabled { // a hundred runs take minutes then
		checks := flag.Lookup("rapid.checks").Value
		before := checks.String()
		require.NoError(t, checks.Set("5"))
		t.Cleanup(func() { _ = checks.Set(before) })
	}
	records := newRecords(t, 16)
	key := newKey(t)
	rapid.Check(t, func(rt *rapid.T) {
		zone := dnstest.NewZone()
		client := dnsdisc.New(dnsdisc.Config{Resolver: zone, Tries: 2, Backoff: 1, Concurrency: rapid.IntRange(1, 8).Draw(rt, "concurrency")})
		var (
			tree      dnstest.Tree
			published []string
			seq       uint64
			faults    []string
			last      *dnsdisc.List
			whole     []string // what the last complete list held
		)
		publishSome := func(rt *rapid.T) {
			from, n := rapid.IntRange(0, 15).Draw(rt, "from"), rapid.IntRange(0, 10).Draw(rt, "n")
			var some []*enr.Record
			for i := range n {
				some = append(some, records[(from+i)%16])
			}
			seq += rapid.Uint64Range(0, 2).Draw(rt, "seq")
			tree = publish(t, key, domain, dnstest.Content{Seq: seq, Records: some, Width: rapid.IntRange(2, 4).Draw(rt, "width")})
			published = texts(some)
			zone.Publish(tree)
		}
		heal := func() {
			for _, name := range faults {
				zone.Fault(name, dnstest.Fault{})
			}
			faults = nil
		}
		read := func(rt *rapid.T) {
			list, err := client.Fetch(t.Context(), tree.URL, last)
			if len(faults) == 0 {
				require.NoError(rt, err)
			}
			if last == nil && list == nil {
				require.Error(rt, err)
				return
			}
			require.NotNil(rt, list)
			require.Subset(rt, texts(records), texts(list.Records))
			if err == nil {
				require.Zero(rt, list.Failed)
				require.Equal(rt, published, texts(list.Records))
				require.Equal(rt, tree.TXT[domain], list.Root)
				asked := zone.Lookups()
				_, err := client.Fetch(t.Context(), tree.URL, list)
				require.NoError(rt, err)
				require.Equal(rt, asked+1, zone.Lookups())
				whole = published
			} else {
				require.Subset(rt, texts(list.Records), whole)
			}
			if last != nil {
				require.GreaterOrEqual(rt, list.Seq, last.Seq)
			}
			last = list
		}
		publishSome(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"publish": publishSome,
			"read":    read,
			"fail": func(rt *rapid.T) {
				names := append([]string{domain, branch(t, tree)}, tree.Leaves...)
				name := rapid.SampledFrom(names).Draw(rt, "name")
				zone.Fault(name, rapid.SampledFrom([]dnstest.Fault{
					{Refuse: true}, {NotFound: true}, {Answer: []string{"rubbish"}}, {Refuse: true, Times: 1},
				}).Draw(rt, "fault"))
				faults = append(faults, name)
			},
			"heal": func(*rapid.T) { heal() },
			"restart": func(rt *rapid.T) {
				if last == nil {
					return
				}
				data, err := last.MarshalBinary()
				require.NoError(rt, err)
				restored := new(dnsdisc.List)
				require.NoError(rt, restored.UnmarshalBinary(data))
				require.Equal(rt, texts(last.Records), texts(restored.Records))
				require.Equal(rt, last.Failed, restored.Failed)
				last = restored
			},
		})
		heal()
		read(rt)
	})
}
