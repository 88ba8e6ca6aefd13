package dnsdisc_test

import (
	"crypto/rand"
	"math"
	"net/netip"
	"testing"

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
		Seq: seq, IP4: netip.MustParseAddr("192.0.2.1"), TCP: uint16(seq % math.MaxUint16), Capabilities: enr.Relay,
	})
	require.NoError(t, err)
	return r
}

func newRecords(t testing.TB, n int) (records []*enr.Record) {
	t.Helper()
	for i := range n {
		records = append(records, newRecord(t, newKey(t), uint64(i+1)))
	}
	return records
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

			list, err := dnsdisc.New(dnsdisc.Config{Resolver: resolver}).Fetch(t.Context(), tree.URL, nil)
			require.NoError(t, err)
			require.Equal(t, texts(records), texts(list.Records))
			require.EqualValues(t, 7, list.Seq)
			require.Equal(t, tree.URL, list.URL)
			require.Zero(t, list.Failed)
			require.Empty(t, list.Refused)
		})
	}
}
