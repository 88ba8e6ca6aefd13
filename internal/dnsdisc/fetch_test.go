package dnsdisc_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
)

const domain = "boot.example.org"

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	require.NoError(t, err)
	return key
}

func newRecord(t testing.TB, key crypto.PrivKey, seq uint64) *enr.Record {
	t.Helper()
	r, err := enr.Build(key, enr.Fields{
		Seq: seq, IP4: netip.MustParseAddr("192.0.2.1"), TCP: uint16(seq%60000) + 1, Capabilities: enr.Relay,
	})
	require.NoError(t, err)
	return r
}

var pool []*enr.Record // making them takes time

// newRecords returns records of n nodes, the same in each test.
func newRecords(t testing.TB, n int) (records []*enr.Record) {
	t.Helper()
	for i := len(pool); i < n; i++ {
		pool = append(pool, newRecord(t, newKey(t), uint64(i+1)))
	}
	return pool[:n:n]
}

func publish(t testing.TB, key crypto.PrivKey, domain string, c dnstest.Content) dnstest.Tree {
	t.Helper()
	tree, err := dnstest.Publish(key, domain, c)
	require.NoError(t, err)
	return tree
}

func texts(records []*enr.Record) (out []string) {
	for _, r := range records {
		out = append(out, r.String())
	}
	return out
}

func fetch(t testing.TB, r dnsdisc.Resolver, url string, last *dnsdisc.List) (*dnsdisc.List, error) {
	t.Helper()
	return dnsdisc.New(dnsdisc.Config{Resolver: r}).Fetch(t.Context(), url, last)
}

// branch returns the name of the first branch below a tree's root.
func branch(t testing.TB, tree dnstest.Tree) (name string) {
	t.Helper()
	_, rest, ok := strings.Cut(tree.TXT[tree.Domain], " e=")
	require.True(t, ok)
	label, _, _ := strings.Cut(rest, " ")
	top := tree.TXT[label+"."+tree.Domain]
	label, _, _ = strings.Cut(strings.TrimPrefix(top, "enrtree-branch:"), ",")
	return label + "." + tree.Domain
}

func TestFetchOverSockets(t *testing.T) {
	for _, test := range []struct {
		name string
		opts []dnstest.Option
	}{
		{"UDP", nil},
		{"TCP", []dnstest.Option{dnstest.Truncated()}},
	} {
		t.Run(test.name, func(t *testing.T) {
			records := newRecords(t, 40)
			tree := publish(t, newKey(t), domain, dnstest.Content{Seq: 7, Records: records})
			server, err := dnstest.Serve(dnstest.NewZone(tree), test.opts...)
			require.NoError(t, err)
			defer server.Close()
			resolver, err := dnsdisc.At(server.Addr())
			require.NoError(t, err)

			list, err := fetch(t, resolver, tree.URL, nil)
			require.NoError(t, err)
			require.Equal(t, texts(records), texts(list.Records))
			require.EqualValues(t, 7, list.Seq)
			require.Equal(t, tree.URL, list.URL)
			require.Equal(t, tree.TXT[domain], list.Root)
			require.Zero(t, list.Failed)
			require.Empty(t, list.Refused)
		})
	}
}

func TestOnlyChangesAreLookedUp(t *testing.T) {
	key := newKey(t)
	records := newRecords(t, 60)
	zone := dnstest.NewZone(publish(t, key, domain, dnstest.Content{Seq: 1, Records: records[:59]}))
	url, err := dnstest.URL(key, domain)
	require.NoError(t, err)
	var found, in []string
	client := dnsdisc.New(dnsdisc.Config{Resolver: zone, Found: func(tree string, r *enr.Record) {
		found, in = append(found, r.String()), append(in, tree)
	}})
	first, err := client.Fetch(t.Context(), url, nil)
	require.NoError(t, err)
	require.ElementsMatch(t, texts(records[:59]), found)
	require.Equal(t, 1+1+5+59, zone.Lookups()) // nobody asks for the empty list of links

	again, err := client.Fetch(t.Context(), url, first)
	require.NoError(t, err)
	require.Equal(t, texts(first.Records), texts(again.Records))
	require.Equal(t, 66+1, zone.Lookups())

	require.Equal(t, []string{url}, slices.Compact(in))
	found = nil
	zone.Publish(publish(t, key, domain, dnstest.Content{Seq: 2, Records: records}))
	more, err := client.Fetch(t.Context(), url, again)
	require.NoError(t, err)
	require.Equal(t, texts(records), texts(more.Records))
	require.Equal(t, texts(records[59:]), found)
	require.Equal(t, 67+4, zone.Lookups()) // root, top, last branch, the new record

	// What another URL's list holds is of no use here.
	other := publish(t, newKey(t), "other.example.org", dnstest.Content{Seq: 1, Records: records[:3]})
	zone.Publish(other)
	list, err := client.Fetch(t.Context(), other.URL, more)
	require.NoError(t, err)
	require.Len(t, list.Records, 3)
	require.Equal(t, 71+1+1+3, zone.Lookups())
}

// One bad leaf, however it is bad, costs that leaf.
func TestBadLeaf(t *testing.T) {
	for name, fault := range map[string]dnstest.Fault{
		"no answer":   {Drop: true},
		"refused":     {Refuse: true},
		"missing":     {NotFound: true},
		"corrupt":     {Answer: []string{"enr:-corrupt"}},
		"other texts": {Answer: []string{"v=spf1 -all", "", "enrtree-branch:"}},
		"endless":     {Answer: []string{strings.Repeat("x", 1<<20)}},
		"too late":    {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := newRecords(t, 20)
				tree := publish(t, newKey(t), domain, dnstest.Content{Seq: 1, Records: records})
				zone := dnstest.NewZone(tree)
				zone.Fault(tree.Leaves[5], fault)
				begin := time.Now()
				var last time.Duration // when the last of the others was told
				client := dnsdisc.New(dnsdisc.Config{Resolver: zone, Found: func(string, *enr.Record) { last = time.Since(begin) }})
				list, err := client.Fetch(t.Context(), tree.URL, nil)
				require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
				var e *dnsdisc.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, domain, e.Tree)
				require.Less(t, time.Since(begin), 20*time.Second)
				require.Zero(t, last)
				require.Equal(t, append(texts(records[:5]), texts(records[6:])...), texts(list.Records))
				require.Equal(t, 1, list.Failed)
				require.Equal(t, 3, zone.Asked(tree.Leaves[5]))

				asked := zone.Lookups()
				zone.Fault(tree.Leaves[5], dnstest.Fault{})
				list, err = client.Fetch(t.Context(), tree.URL, list)
				require.NoError(t, err)
				require.Equal(t, texts(records), texts(list.Records))
				require.Equal(t, asked+2, zone.Lookups())
			})
		})
	}
}

// A name that answers at the second or third time is no failure, the root
// included.
func TestFlakyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newRecords(t, 30)
		tree := publish(t, newKey(t), domain, dnstest.Content{Seq: 1, Records: records})
		zone := dnstest.NewZone(tree)
		faults := []dnstest.Fault{{Drop: true, Times: 2}, {Refuse: true, Times: 2}}
		i := 0
		for name := range tree.TXT {
			zone.Fault(name, faults[i%len(faults)])
			i++
		}
		list, err := fetch(t, zone, tree.URL, nil)
		require.NoError(t, err)
		require.Equal(t, texts(records), texts(list.Records))
	})
}

func TestRoots(t *testing.T) {
	key := newKey(t)
	records := newRecords(t, 3)
	tree := publish(t, key, domain, dnstest.Content{Seq: 5, Records: records})
	good := tree.TXT[domain]
	older := publish(t, key, domain, dnstest.Content{Seq: 4, Records: records[:1]}).TXT[domain]
	forged := publish(t, newKey(t), domain, dnstest.Content{Seq: 9, Records: records}).TXT[domain]
	half := len(good) / 2
	for _, test := range []struct {
		name string
		txts []string
		err  error
	}{
		{"alone", []string{good}, nil},
		{"among others", []string{"v=spf1 -all", older, forged, "enrtree-root:v2 x", good, ""}, nil},
		{"in pieces", []string{good[:half], good[half:]}, nil},
		{"none", nil, dnsdisc.ErrNoTree},
		{"others only", []string{"v=spf1 -all"}, dnsdisc.ErrNoTree},
		{"an entry", []string{"enrtree-branch:"}, dnsdisc.ErrNoTree},
		{"another key's", []string{forged}, dnsdisc.ErrSignature},
		{"seq changed", []string{strings.Replace(good, "seq=5", "seq=6", 1)}, dnsdisc.ErrSignature},
		{"version 2", []string{strings.Replace(good, "v1", "v2", 1)}, dnsdisc.ErrMalformed},
		{"cut short", []string{good[:len(good)-1]}, dnsdisc.ErrMalformed},
		{"more", []string{good + " more"}, dnsdisc.ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			zone := dnstest.NewZone(tree)
			zone.Set(domain, test.txts...)
			list, err := fetch(t, zone, tree.URL, nil)
			if test.err == nil {
				require.NoError(t, err)
				require.EqualValues(t, 5, list.Seq)
				require.Len(t, list.Records, 3)
				return
			}
			require.ErrorIs(t, err, test.err)
			require.Nil(t, list)
			require.NotContains(t, err.Error(), "\n")
			require.Contains(t, err.Error(), domain)
			require.Equal(t, 1, zone.Lookups(), "that answer doesn't change within a moment")
		})
	}
}

func TestReplay(t *testing.T) {
	key := newKey(t)
	records := newRecords(t, 4)
	old := publish(t, key, domain, dnstest.Content{Seq: 1, Records: records[:2]})
	tree := publish(t, key, domain, dnstest.Content{Seq: 2, Records: records[2:]})
	zone := dnstest.NewZone(tree)
	last, err := fetch(t, zone, tree.URL, nil)
	require.NoError(t, err)
	zone.Publish(old)
	list, err := fetch(t, zone, tree.URL, last)
	require.ErrorIs(t, err, dnsdisc.ErrReplay)
	require.Same(t, last, list)

	// With several resolvers one that lags behind does no harm.
	list, err = fetch(t, dnsdisc.Chain(zone, dnstest.NewZone(tree)), tree.URL, last)
	require.NoError(t, err)
	require.EqualValues(t, 2, list.Seq)
	// Who has no list can't know.
	list, err = fetch(t, zone, tree.URL, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, list.Seq)
}

func TestLastIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := publish(t, newKey(t), domain, dnstest.Content{Seq: 1, Records: newRecords(t, 4)})
		zone := dnstest.NewZone(tree)
		last, err := fetch(t, zone, tree.URL, nil)
		require.NoError(t, err)
		zone.Fault("", dnstest.Fault{Drop: true})
		begin := time.Now()
		list, err := fetch(t, zone, tree.URL, last)
		require.ErrorIs(t, err, dnsdisc.ErrNoAnswer)
		require.Contains(t, err.Error(), "DNS tree boot.example.org: no answer from the DNS resolver (")
		require.Same(t, last, list)
		require.Less(t, time.Since(begin), 20*time.Second)
	})
}

// While parts of a new tree are missing, what the old one said is kept.
func TestOlderTreeFillsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t)
		records := newRecords(t, 39)
		renewed := newRecord(t, newKey(t), 1)
		tree := publish(t, key, domain, dnstest.Content{Seq: 1, Records: records})
		zone := dnstest.NewZone(tree)
		last, err := fetch(t, zone, tree.URL, nil)
		require.NoError(t, err)

		second := append([]*enr.Record{renewed}, records[2:]...)
		next := publish(t, key, domain, dnstest.Content{Seq: 2, Records: second})
		zone.Publish(next)
		bad := branch(t, next)
		zone.Fault(bad, dnstest.Fault{Refuse: true})
		list, err := fetch(t, zone, tree.URL, last)
		require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
		require.Equal(t, 1, list.Failed)
		require.EqualValues(t, 2, list.Seq)
		require.ElementsMatch(t, texts(records), texts(list.Records))

		// Across a restart, and another change meanwhile.
		data, err := list.MarshalBinary()
		require.NoError(t, err)
		restored := new(dnsdisc.List)
		require.NoError(t, restored.UnmarshalBinary(data))
		require.ElementsMatch(t, texts(records), texts(restored.Records))
		third := append([]*enr.Record{renewed}, records[3:]...)
		next = publish(t, key, domain, dnstest.Content{Seq: 3, Records: third})
		zone.Publish(next)
		zone.Fault(branch(t, next), dnstest.Fault{NotFound: true})
		list, err = fetch(t, zone, tree.URL, restored)
		require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
		require.ElementsMatch(t, texts(records), texts(list.Records))

		zone.Fault(branch(t, next), dnstest.Fault{})
		list, err = fetch(t, zone, tree.URL, list)
		require.NoError(t, err)
		require.Equal(t, texts(third), texts(list.Records))
	})
}

// changing publishes another tree once an entry of the first is asked for.
type changing struct {
	*dnstest.Zone
	trees []dnstest.Tree
}

func (c *changing) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if name != domain && len(c.trees) > 0 {
		c.Zone.Publish(c.trees[0])
		c.trees = c.trees[1:]
	}
	return c.Zone.LookupTXT(ctx, name)
}

func TestTreeChangesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t)
		records := newRecords(t, 20)
		before := publish(t, key, domain, dnstest.Content{Seq: 1, Records: records[:15]})
		after := publish(t, key, domain, dnstest.Content{Seq: 2, Records: records[5:]})
		zone := &changing{dnstest.NewZone(before), []dnstest.Tree{after}}
		client := dnsdisc.New(dnsdisc.Config{Resolver: zone, Concurrency: 1})
		list, err := client.Fetch(t.Context(), before.URL, nil)
		require.NoError(t, err)
		require.EqualValues(t, 2, list.Seq)
		require.Equal(t, texts(records[5:]), texts(list.Records))
	})
}

func TestLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := []crypto.PrivKey{newKey(t), newKey(t), newKey(t)}
		var urls []string
		for i, key := range keys {
			url, err := dnstest.URL(key, fmt.Sprintf("t%d.example.org", i))
			require.NoError(t, err)
			urls = append(urls, url)
		}
		records := newRecords(t, 6)
		zone := dnstest.NewZone()
		for i, key := range keys {
			// Each links to all, itself included.
			zone.Publish(publish(t, key, fmt.Sprintf("t%d.example.org", i), dnstest.Content{
				Seq: uint64(i), Records: records[2*i : 2*i+2], Links: urls,
			}))
		}
		list, err := fetch(t, zone, urls[1], nil)
		require.NoError(t, err)
		require.ElementsMatch(t, texts(records), texts(list.Records))
		require.Equal(t, urls[1], list.URL)
		require.EqualValues(t, 1, list.Seq)
		require.Empty(t, list.Refused)

		asked := zone.Lookups()
		again, err := fetch(t, zone, urls[1], list)
		require.NoError(t, err)
		require.Equal(t, texts(list.Records), texts(again.Records))
		require.Equal(t, asked+3, zone.Lookups())

		// A linked tree that is gone is remembered, or counted.
		zone.Set("t2.example.org")
		list, err = fetch(t, zone, urls[1], again)
		require.ErrorIs(t, err, dnsdisc.ErrNoTree)
		require.Contains(t, err.Error(), "t2.example.org")
		require.Len(t, list.Records, 6)
		list, err = fetch(t, zone, urls[1], nil)
		require.ErrorIs(t, err, dnsdisc.ErrNoTree)
		require.Len(t, list.Records, 4)
		require.Equal(t, 1, list.Failed)
	})
}

// When the resolver falls silent, linked trees are kept too, and those that
// they link to.
func TestLinkedTreesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newRecords(t, 6)
		last := publish(t, newKey(t), "last.example.org", dnstest.Content{Records: records[4:]})
		middle := publish(t, newKey(t), "middle.example.org", dnstest.Content{Records: records[2:4], Links: []string{last.URL}})
		first := publish(t, newKey(t), domain, dnstest.Content{Records: records[:2], Links: []string{middle.URL}})
		zone := dnstest.NewZone(first, middle, last)
		list, err := fetch(t, zone, first.URL, nil)
		require.NoError(t, err)
		require.Equal(t, texts(records), texts(list.Records))
		for _, name := range []string{middle.Domain, last.Domain} {
			zone.Fault(name, dnstest.Fault{Drop: true})
			for _, total := range []time.Duration{0, 3 * time.Second} {
				list, err = dnsdisc.New(dnsdisc.Config{Resolver: zone, Total: total}).Fetch(t.Context(), first.URL, list)
				require.ErrorIs(t, err, dnsdisc.ErrNoAnswer)
				require.Equal(t, texts(records), texts(list.Records))
				require.Zero(t, list.Failed)
			}
		}
	})
}

// However many leaves fail one after the other, those behind them are read.
func TestManyBadLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newRecords(t, 60)
		tree := publish(t, newKey(t), domain, dnstest.Content{Records: records})
		for _, concurrency := range []int{1, 8} {
			zone := dnstest.NewZone(tree)
			for _, name := range tree.Leaves[:58] {
				zone.Fault(name, dnstest.Fault{Refuse: true})
			}
			client := dnsdisc.New(dnsdisc.Config{Resolver: zone, Concurrency: concurrency})
			list, err := client.Fetch(t.Context(), tree.URL, nil)
			require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
			require.Equal(t, texts(records[58:]), texts(list.Records))
			require.Equal(t, 58, list.Failed)
		}
	})
}

func TestDuplicates(t *testing.T) {
	node, other := newKey(t), newKey(t)
	newest := newRecord(t, node, 9)
	linked := publish(t, newKey(t), "linked.example.org", dnstest.Content{Records: []*enr.Record{newRecord(t, node, 5)}})
	tree := publish(t, newKey(t), domain, dnstest.Content{
		Records: []*enr.Record{newRecord(t, node, 3), newRecord(t, other, 1), newest, newRecord(t, node, 8)},
		Links:   []string{linked.URL},
	})
	list, err := fetch(t, dnstest.NewZone(tree, linked), tree.URL, nil)
	require.NoError(t, err)
	require.Equal(t, texts([]*enr.Record{newest, newRecord(t, other, 1)}), texts(list.Records))
	require.Equal(t, map[string]int{dnsdisc.RefusedOld: 3}, list.Refused)
}
