package dnsdisc_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
)

// forge is what a signer with bad intentions can publish: any text below any
// root.
type forge struct {
	t    testing.TB
	key  crypto.PrivKey
	tree dnstest.Tree
}

func newForge(t testing.TB) *forge {
	key := newKey(t)
	url, err := dnstest.URL(key, domain)
	require.NoError(t, err)
	return &forge{t, key, dnstest.Tree{URL: url, Domain: domain, TXT: make(map[string]string)}}
}

func (f *forge) put(text string) (label string) {
	f.tree.TXT[dnstest.Label(text)+"."+domain] = text
	return dnstest.Label(text)
}

func (f *forge) branch(children ...string) (label string) {
	return f.put("enrtree-branch:" + strings.Join(children, ","))
}

func (f *forge) root(e, l string, seq any) *dnstest.Zone {
	text, err := dnstest.Sign(f.key, fmt.Sprintf("enrtree-root:v1 e=%s l=%s seq=%v", e, l, seq))
	require.NoError(f.t, err)
	f.tree.TXT[domain] = text
	return dnstest.NewZone(f.tree)
}

func broken(t testing.TB, r *enr.Record) string {
	raw := r.Bytes()
	raw[5] ^= 1 // within the signature
	return "enr:" + base64.RawURLEncoding.EncodeToString(raw)
}

func TestRefused(t *testing.T) {
	records := newRecords(t, 3)
	f := newForge(t)
	other := newForge(t).tree.URL
	e := f.branch(
		f.put(records[0].String()),
		f.put(broken(t, records[1])),
		f.put("enr:"),
		f.put("enr:"+strings.Repeat("A", 500)),
		f.put("enr:-HW4\nQ"),
		f.put("enrtree-root:v1 and so on"),
		f.put("matree:unknown"),
		f.put("enr:\xff\x00"),
		f.put(other),
		f.put("enrtree://AAAA@example.org"),
		"short", "not-base32-not-base32-----", strings.Repeat("A", 60), "",
		f.branch(f.put(records[2].String())),
	)
	l := f.branch(f.put(records[1].String()))
	zone := f.root(e, l, 1)
	list, err := fetch(t, zone, f.tree.URL, nil)
	require.NoError(t, err)
	require.Equal(t, texts([]*enr.Record{records[0], records[2]}), texts(list.Records))
	require.Equal(t, map[string]int{
		dnsdisc.RefusedSignature: 1,
		dnsdisc.RefusedRecord:    1,
		dnsdisc.RefusedTooLarge:  1,
		dnsdisc.RefusedMalformed: 4 + 1 + 4,
		dnsdisc.RefusedPlace:     2,
	}, list.Refused)

	// All that is known for good and isn't asked again.
	asked := zone.Lookups()
	again, err := fetch(t, zone, f.tree.URL, list)
	require.NoError(t, err)
	require.Equal(t, list.Refused, again.Refused)
	require.Equal(t, asked+1, zone.Lookups())
}

// Of a signature's two forms one counts, as with records.
func TestHighS(t *testing.T) {
	tree := publish(t, newKey(t), domain, dnstest.Content{})
	text, encoded, _ := strings.Cut(tree.TXT[domain], " sig=")
	sig, err := base64.RawURLEncoding.DecodeString(encoded)
	require.NoError(t, err)
	var s secp256k1.ModNScalar
	s.SetByteSlice(sig[32:64])
	s.Negate().PutBytesUnchecked(sig[32:64])
	sig[64] ^= 1
	zone := dnstest.NewZone(tree)
	zone.Set(domain, text+" sig="+base64.RawURLEncoding.EncodeToString(sig))
	_, err = fetch(t, zone, tree.URL, nil)
	require.ErrorIs(t, err, dnsdisc.ErrSignature)
}

// A name that is another's but for its end isn't that entry's, known or not.
func TestAlmostTheSameName(t *testing.T) {
	f := newForge(t)
	label := f.put(newRecords(t, 1)[0].String())
	last, err := fetch(t, f.root(f.branch(label), f.branch(), 1), f.tree.URL, nil)
	require.NoError(t, err)
	end := "AA"
	if strings.HasSuffix(label, end) {
		end = "BA"
	}
	zone := f.root(f.branch(label[:len(label)-2]+end), f.branch(), 2)
	zone.Set(label[:len(label)-2]+end+"."+domain, f.tree.TXT[label+"."+domain])
	client := dnsdisc.New(dnsdisc.Config{Resolver: zone, Tries: 1, Found: func(_ string, r *enr.Record) { t.Error(r) }})
	list, err := client.Fetch(t.Context(), f.tree.URL, nil)
	require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
	require.Empty(t, list.Records)
	list, err = client.Fetch(t.Context(), f.tree.URL, last)
	require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
	require.Equal(t, 1, list.Failed)
	require.Len(t, list.Records, 1, "of the tree before")
}

// Row A4: a root's number at its ends.
func TestSeqExtremes(t *testing.T) {
	f := newForge(t)
	e := f.branch(f.put(newRecords(t, 1)[0].String()))
	l := f.branch()
	for _, seq := range []uint64{0, 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		list, err := fetch(t, f.root(e, l, seq), f.tree.URL, nil)
		require.NoError(t, err)
		require.Equal(t, seq, list.Seq)
		require.Len(t, list.Records, 1)
	}
	for _, seq := range []string{"-1", "18446744073709551616", "", "+1", "0x1", "1.0", "1e3", "1_0", " 1", strings.Repeat("9", 1000)} {
		_, err := fetch(t, f.root(e, l, seq), f.tree.URL, nil)
		require.ErrorIs(t, err, dnsdisc.ErrMalformed, "%q", seq)
	}
}

func TestLimits(t *testing.T) {
	records := newRecords(t, 40)
	tree := publish(t, newKey(t), domain, dnstest.Content{Records: records, Width: 3}) // three branches deep
	for _, test := range []struct {
		name                 string
		cfg                  dnsdisc.Config
		least, most, lookups int
	}{
		{"records", dnsdisc.Config{MaxRecords: 7}, 7, 7, 60},
		{"lookups", dnsdisc.Config{MaxLookups: 30}, 1, 20, 30},
		{"depth", dnsdisc.Config{MaxDepth: 2}, 0, 0, 20},
		{"bytes", dnsdisc.Config{MaxBytes: 4000}, 1, 20, 60},
	} {
		t.Run(test.name, func(t *testing.T) {
			zone := dnstest.NewZone(tree)
			test.cfg.Resolver = zone
			client := dnsdisc.New(test.cfg)
			list, err := client.Fetch(t.Context(), tree.URL, nil)
			require.ErrorIs(t, err, dnsdisc.ErrLimit)
			require.GreaterOrEqual(t, len(list.Records), test.least)
			require.LessOrEqual(t, len(list.Records), test.most)
			require.LessOrEqual(t, zone.Lookups(), test.lookups)
			require.Subset(t, texts(records), texts(list.Records))
			require.Positive(t, list.Failed)

			// Nor do several runs add up to more than that.
			again, err := client.Fetch(t.Context(), tree.URL, list)
			require.ErrorIs(t, err, dnsdisc.ErrLimit)
			if test.name != "lookups" { // which limits a run
				require.LessOrEqual(t, len(again.Records), test.most)
			}
		})
	}

	links := []string{}
	zone := dnstest.NewZone()
	for i := range 20 {
		name := fmt.Sprintf("t%d.example.org", i)
		linked := publish(t, newKey(t), name, dnstest.Content{Records: records[i : i+1]})
		links = append(links, linked.URL)
		zone.Publish(linked)
	}
	main := publish(t, newKey(t), domain, dnstest.Content{Links: links})
	zone.Publish(main)
	list, err := dnsdisc.New(dnsdisc.Config{Resolver: zone, MaxLinks: 5}).Fetch(t.Context(), main.URL, nil)
	require.ErrorIs(t, err, dnsdisc.ErrLimit)
	require.Len(t, list.Records, 5)
}

// Every branch names the one below it many times: 36^8 ways down to one record.
func TestManyWaysToOneLeaf(t *testing.T) {
	f := newForge(t)
	at := f.put(newRecords(t, 1)[0].String())
	for range 8 {
		children := make([]string, 36)
		for i := range children {
			children[i] = at
		}
		at = f.branch(children...)
	}
	zone := f.root(at, at, 1)
	list, err := fetch(t, zone, f.tree.URL, nil)
	require.NoError(t, err)
	require.Len(t, list.Records, 1)
	require.LessOrEqual(t, zone.Lookups(), 1+2*9) // once as records, once as links
	data, err := list.MarshalBinary()
	require.NoError(t, err)
	require.NoError(t, new(dnsdisc.List).UnmarshalBinary(data))
}

// endless links to another tree of the same kind, for ever.
func TestEndlessLinks(t *testing.T) {
	key := newKey(t)
	zone := dnstest.NewZone()
	name := func(i int) string { return fmt.Sprintf("t%d.example.org", i) }
	for i := range 100 {
		next, err := dnstest.URL(key, name(i+1))
		require.NoError(t, err)
		zone.Publish(publish(t, key, name(i), dnstest.Content{Links: []string{next}}))
	}
	url, err := dnstest.URL(key, name(0))
	require.NoError(t, err)
	list, err := fetch(t, zone, url, nil)
	require.ErrorIs(t, err, dnsdisc.ErrLimit)
	require.NotNil(t, list)
	require.LessOrEqual(t, zone.Lookups(), 3*(dnsdisc.DefaultMaxLinks+1))
}

// A resolver that stops answering, or answers everything late, holds nobody up
// for long.
func TestSlowResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := newRecords(t, 60)
		tree := publish(t, newKey(t), domain, dnstest.Content{Records: records})
		zone := dnstest.NewZone(tree)
		zone.Fault("", dnstest.Fault{Drop: true})
		for _, name := range append(tree.Leaves[:4:4], domain, branch(t, tree)) {
			zone.Fault(name, dnstest.Fault{Delay: time.Millisecond})
		}
		top := strings.Fields(tree.TXT[domain])[1][len("e="):] + "." + domain
		zone.Fault(top, dnstest.Fault{Delay: time.Millisecond})
		begin := time.Now()
		list, err := fetch(t, zone, tree.URL, nil)
		require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
		require.Equal(t, texts(records[:4]), texts(list.Records))
		require.Less(t, time.Since(begin), 30*time.Second)

		zone = dnstest.NewZone(tree)
		zone.Fault("", dnstest.Fault{Delay: 4900 * time.Millisecond})
		begin = time.Now()
		list, err = fetch(t, zone, tree.URL, nil)
		require.NoError(t, err)
		require.Len(t, list.Records, 60)
		require.Less(t, time.Since(begin), dnsdisc.DefaultTotal)

		list, err = dnsdisc.New(dnsdisc.Config{Resolver: zone, Total: 12 * time.Second}).Fetch(t.Context(), tree.URL, nil)
		require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotNil(t, list)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		list, err = dnsdisc.New(dnsdisc.Config{Resolver: zone}).Fetch(ctx, tree.URL, nil)
		require.ErrorIs(t, err, dnsdisc.ErrNoAnswer)
		require.Nil(t, list)
		require.Equal(t, time.Second, time.Since(begin))
	})
}

type resolverFunc func(ctx context.Context, name string) ([]string, error)

func (f resolverFunc) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return f(ctx, name)
}

func TestResolverPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree := publish(t, newKey(t), domain, dnstest.Content{Records: newRecords(t, 5)})
		zone := dnstest.NewZone(tree)
		panics := resolverFunc(func(context.Context, string) ([]string, error) { panic("oh") })
		list, err := fetch(t, panics, tree.URL, nil)
		require.ErrorIs(t, err, dnsdisc.ErrNoAnswer)
		require.ErrorContains(t, err, "oh")
		require.Nil(t, list)
		list, err = fetch(t, dnsdisc.Chain(panics, zone), tree.URL, nil)
		require.NoError(t, err)
		require.Len(t, list.Records, 5)
		once := resolverFunc(func(ctx context.Context, name string) ([]string, error) {
			if name == tree.Leaves[2] {
				panic("oh")
			}
			return zone.LookupTXT(ctx, name)
		})
		list, err = fetch(t, once, tree.URL, nil)
		require.ErrorIs(t, err, dnsdisc.ErrIncomplete)
		require.Len(t, list.Records, 4)
	})
}

// Row A6, through DNS: 10,000 leaves, few of which are of use.
func TestGarbage(t *testing.T) {
	garbage := 10_000
	if raceEnabled {
		garbage = 1_000
	}
	good := newRecords(t, 40)
	var leaves []string
	for i := range garbage {
		switch {
		case i%(garbage/len(good)) == 0:
			leaves = append(leaves, good[i*len(good)/garbage].String())
		case i%100 == 1:
			raw := good[i%40].Bytes()
			raw[6+i/100%50] ^= byte(1 + i%7)
			leaves = append(leaves, "enr:"+base64.RawURLEncoding.EncodeToString(raw))
		case i%4 == 0:
			leaves = append(leaves, fmt.Sprintf("enr:%0400d", i))
		case i%4 == 1:
			leaves = append(leaves, fmt.Sprintf("enr:%0500d", i)) // too large
		case i%4 == 2:
			leaves = append(leaves, fmt.Sprintf("%s%d", good[i%40], i))
		default:
			leaves = append(leaves, fmt.Sprintf("rubbish %d", i))
		}
	}
	tree := publish(t, newKey(t), domain, dnstest.Content{Leaves: leaves})
	list, err := dnsdisc.New(dnsdisc.Config{Resolver: dnstest.NewZone(tree)}).Fetch(t.Context(), tree.URL, nil)
	require.NoError(t, err)
	require.Equal(t, texts(good), texts(list.Records))
	total := 0
	for _, n := range list.Refused {
		total += n
	}
	require.Equal(t, len(leaves)-len(good), total)
}
