package dnsdisc_test

import (
	"testing"
	"time"

	gethcrypto "github.com/ethereum/go-ethereum/crypto"
	gethdns "github.com/ethereum/go-ethereum/p2p/dnsdisc"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
)

// What go-ethereum publishes is read here, and what is published here is read
// by go-ethereum: EIP-1459's other implementation has a say.
func TestGoEthereum(t *testing.T) {
	for _, n := range []int{0, 1, 2, 13, 14, 200} {
		records := newRecords(t, n)
		var nodes []*enode.Node
		for _, r := range records {
			nodes = append(nodes, enode.MustParse(r.String()))
		}
		linked := publish(t, newKey(t), "linked.example.org", dnstest.Content{Seq: 1})

		key, err := gethcrypto.GenerateKey()
		require.NoError(t, err)
		theirs, err := gethdns.MakeTree(uint(n), nodes, []string{linked.URL})
		require.NoError(t, err)
		url, err := theirs.Sign(key, domain)
		require.NoError(t, err)
		zone := dnstest.NewZone(dnstest.Tree{Domain: domain, TXT: theirs.ToTXT(domain)}, linked)
		list, err := dnsdisc.New(dnsdisc.Config{Resolver: zone}).Fetch(t.Context(), url, nil)
		require.NoError(t, err)
		require.ElementsMatch(t, texts(records), texts(list.Records))
		require.EqualValues(t, n, list.Seq)
		require.Equal(t, url, list.URL)
		require.Equal(t, 1, zone.Asked("linked.example.org"))

		ours := publish(t, newKey(t), domain, dnstest.Content{Seq: uint64(n), Records: records, Links: []string{linked.URL}})
		client := gethdns.NewClient(gethdns.Config{Resolver: dnstest.NewZone(ours), RateLimit: 1e6, Timeout: time.Second})
		tree, err := client.SyncTree(ours.URL)
		require.NoError(t, err)
		require.EqualValues(t, n, tree.Seq())
		require.Equal(t, []string{linked.URL}, tree.Links())
		var read []string
		for _, node := range tree.Nodes() {
			read = append(read, node.String())
		}
		require.ElementsMatch(t, texts(records), read)
	}
}
