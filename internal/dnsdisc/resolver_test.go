package dnsdisc_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
)

func zoneOf(txt string) *dnstest.Zone {
	z := dnstest.NewZone()
	if txt != "" {
		z.Set("name", txt)
	}
	return z
}

func TestChainRemembersWhoAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead, lying, good := zoneOf(""), zoneOf(""), zoneOf("text")
		dead.Fault("", dnstest.Fault{Drop: true})
		chain := dnsdisc.Chain(dead, lying, good)
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		begin := time.Now()
		txts, err := chain.LookupTXT(ctx, "name")
		require.NoError(t, err)
		require.Equal(t, []string{"text"}, txts)
		require.Equal(t, 2*time.Second, time.Since(begin)) // the dead one's third
		_, err = chain.LookupTXT(ctx, "name")
		require.NoError(t, err)
		require.Equal(t, []int{1, 1, 2}, []int{dead.Lookups(), lying.Lookups(), good.Lookups()})

		// Whoever answers next comes first.
		lying.Set("name", "other")
		good.Fault("", dnstest.Fault{Refuse: true})
		dead.Fault("", dnstest.Fault{Refuse: true})
		for range 2 {
			txts, err = chain.LookupTXT(ctx, "name")
			require.NoError(t, err)
			require.Equal(t, []string{"other"}, txts)
		}
		require.Equal(t, []int{2, 3, 3}, []int{dead.Lookups(), lying.Lookups(), good.Lookups()})
	})
}

func TestChainErrors(t *testing.T) {
	none, broken := zoneOf(""), zoneOf("")
	broken.Fault("", dnstest.Fault{Refuse: true})
	notFound := func(err error) bool {
		var e *net.DNSError
		return errors.As(err, &e) && e.IsNotFound
	}
	// That a name doesn't exist is only certain when all say so.
	_, err := dnsdisc.Chain(none, none).LookupTXT(t.Context(), "name")
	require.True(t, notFound(err))
	_, err = dnsdisc.Chain(none, broken).LookupTXT(t.Context(), "name")
	require.ErrorContains(t, err, "misbehaving")
	require.False(t, notFound(err))
	_, err = dnsdisc.Chain(broken, broken).LookupTXT(t.Context(), "name")
	require.ErrorContains(t, err, "misbehaving; ")
	require.NotContains(t, err.Error(), "\n")
	_, err = dnsdisc.Chain().LookupTXT(t.Context(), "name")
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dead := zoneOf("")
	dead.Fault("", dnstest.Fault{Drop: true})
	_, err = dnsdisc.Chain(dead, dead).LookupTXT(ctx, "name")
	require.Error(t, err)
	require.Equal(t, 1, dead.Lookups())
}

// A resolver whose answers are wrong, such as a hotel's, is passed over.
func TestChainPassesOverWrongAnswers(t *testing.T) {
	tree := publish(t, newKey(t), domain, dnstest.Content{Records: newRecords(t, 20)})
	hotel := resolverFunc(func(context.Context, string) ([]string, error) { return []string{"please log in"}, nil })
	good := dnstest.NewZone(tree)
	list, err := fetch(t, dnsdisc.Chain(hotel, good), tree.URL, nil)
	require.NoError(t, err)
	require.Len(t, list.Records, 20)

	_, err = fetch(t, dnsdisc.Chain(hotel, hotel), tree.URL, nil)
	require.ErrorIs(t, err, dnsdisc.ErrNoTree)
}

func TestAt(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "127.0.0.1:5353", "::1", "[::1]", "[::1]:53", "fe80::1%eth0", "dns.example.org", "localhost:domain"} {
		_, err := dnsdisc.At(addr)
		require.NoError(t, err, addr)
	}
	for _, addr := range []string{"", ":53", "[", "[]:53", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:x", "a b", "https://dns.example.org/", "1:2:3"} {
		_, err := dnsdisc.At(addr)
		require.Error(t, err, addr)
	}
}

func TestAtAnswers(t *testing.T) {
	long := strings.Repeat("long ", 300)
	zone := dnstest.NewZone()
	zone.Set("a.example.org", "one", "two")
	zone.Set("b.example.org", long)
	zone.Fault("c.example.org", dnstest.Fault{Refuse: true})
	server, err := dnstest.Serve(zone)
	require.NoError(t, err)
	defer server.Close()
	r, err := dnsdisc.At(server.Addr())
	require.NoError(t, err)

	txts, err := r.LookupTXT(t.Context(), "A.Example.org")
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two"}, txts)
	txts, err = r.LookupTXT(t.Context(), "b.example.org") // by TCP
	require.NoError(t, err)
	require.Equal(t, []string{long}, txts)
	var e *net.DNSError
	_, err = r.LookupTXT(t.Context(), "c.example.org")
	require.ErrorAs(t, err, &e)
	require.False(t, e.IsNotFound)
	_, err = r.LookupTXT(t.Context(), "d.example.org")
	require.ErrorAs(t, err, &e)
	require.True(t, e.IsNotFound)
	require.Equal(t, 1, zone.Asked("d.example.org"), "not within search domains too")
}

// Nobody listens at the resolver's port.
func TestAtNobody(t *testing.T) {
	server, err := dnstest.Serve(dnstest.NewZone())
	require.NoError(t, err)
	addr := server.Addr()
	require.NoError(t, server.Close())
	r, err := dnsdisc.At(addr)
	require.NoError(t, err)
	tree := publish(t, newKey(t), domain, dnstest.Content{})
	_, err = dnsdisc.New(dnsdisc.Config{Resolver: r, Tries: 1}).Fetch(t.Context(), tree.URL, nil)
	require.ErrorIs(t, err, dnsdisc.ErrNoAnswer)
	require.ErrorContains(t, err, " on "+addr)
}
