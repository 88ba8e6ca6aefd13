package main

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/waku"
)

var peersNow = regexp.MustCompile(`(?m)^waku_peers (\d+)$`)

// meets waits until a node has so many peers of its network, or more.
func (r *running) meets(t *testing.T, peers int) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + r.line.Metrics + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return false
		}
		if m := peersNow.FindSubmatch(body); m != nil {
			n, _ := strconv.Atoi(string(m[1]))
			return n >= peers
		}
		return false
	}, 2*time.Minute, 20*time.Millisecond)
}

// record is what a node says of itself when it is ready.
func (r *running) record(t *testing.T) *enr.Record {
	t.Helper()
	record, err := enr.Parse(r.line.ENR)
	require.NoError(t, err)
	assert.Equal(t, r.line.PeerID, record.PeerID().String())
	return record
}

// finder starts a node of shard 128 that is told how to find others.
func finder(t *testing.T, args ...string) *running {
	t.Helper()
	return start(t, append([]string{"--shards", "128", "--ws-listen", "", "--metrics", "127.0.0.1:0"}, args...)...)
}

// One record is enough: who begins with it finds the others too, and after a restart
// finds them without it.
func TestFoundByOneRecord(t *testing.T) {
	first := finder(t, "--discv5", "--peer-exchange", "--filter")
	assert.Equal(t, []string{"filter", "peer-exchange"}, first.line.Services)
	f := first.record(t).Fields()
	assert.NotZero(t, f.UDP, "discv5 can be reached")
	assert.NotZero(t, f.TCP)
	assert.Equal(t, "127.0.0.1", f.IP4.String())
	assert.True(t, f.Capabilities.Has(enr.Relay|enr.Filter))
	assert.True(t, f.Shards.Contains(shard))

	dir := t.TempDir()
	args := []string{"--bootnode", first.line.ENR, "--nodekey-file", filepath.Join(dir, "key"), "--state", filepath.Join(dir, "state")}
	second := finder(t, args...)
	third := finder(t, "--bootnode", first.line.ENR)
	for _, r := range []*running{first, second, third} {
		assert.NotZero(t, r.record(t).Fields().UDP)
		r.meets(t, 2)
	}
	second.end(t)
	again := finder(t, args[2:]...)
	again.meets(t, 1) // remembered
	assert.Equal(t, second.line.PeerID, again.line.PeerID)
	assert.Greater(t, again.record(t).Seq(), second.record(t).Seq())
}

// A list in DNS is enough as well, even if one of two resolvers is dead.
func TestFoundByDNS(t *testing.T) {
	first := finder(t)
	second := finder(t)
	key, _, err := crypto.GenerateSecp256k1Key(nil)
	require.NoError(t, err)
	tree, err := dnstest.Publish(key, "nodes.example.org", dnstest.Content{
		Seq: 1, Records: []*enr.Record{first.record(t), second.record(t)},
	})
	require.NoError(t, err)
	server, err := dnstest.Serve(dnstest.NewZone(tree))
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	dead, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())

	third := finder(t, "--dns-tree", tree.URL, "--resolver", dead.LocalAddr().String(), "--resolver", server.Addr())
	third.meets(t, 2)
}

// Behind a router that maps everything, or in a container: what others are told is what
// the operator says.
func TestExternalAddress(t *testing.T) {
	r := finder(t, "--external-ip", "203.0.113.7", "--discv5", "--udp-port", "0")
	for _, a := range r.line.Addresses {
		assert.Contains(t, a, "/ip4/203.0.113.7/")
	}
	f := r.record(t).Fields()
	assert.Equal(t, "203.0.113.7", f.IP4.String())
	assert.NotZero(t, f.TCP)
	assert.NotZero(t, f.UDP)
}

func TestWhereDiscv5Listens(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--discv5"}, "127.0.0.1:0"},
		{[]string{"--discv5", "--udp-port", "7000"}, "127.0.0.1:7000"},
		{[]string{"--discv5", "--listen", "/ip4/0.0.0.0/tcp/30303"}, "0.0.0.0:9000"},
		{[]string{"--discv5", "--listen", "/ip4/192.0.2.7/tcp/30303", "--listen", "/ip4/127.0.0.1/tcp/0"}, "192.0.2.7:9000"},
		{[]string{"--discv5", "--listen", "/ip4/0.0.0.0/tcp/30303", "--udp-port", "0"}, "0.0.0.0:0"},
		{[]string{"--discv5", "--listen", "/ip4/0.0.0.0/udp/0/quic-v1", "--listen", "/ip6/::1/tcp/0"}, "[::1]:0"},
		{[]string{"--discv5", "--listen", "/ip6/::/udp/0/quic-v1", "--ws-listen", ""}, "[::]:9000"},
		{[]string{"--discv5", "--listen", "", "--ws-listen", "/ip4/0.0.0.0/tcp/8000/ws"}, "0.0.0.0:9000"},
		{[]string{"--network", "status", "--listen", "/ip4/0.0.0.0/tcp/30303"}, "0.0.0.0:0"},
		{[]string{"--network", "status"}, "0.0.0.0:0"},
		{[]string{"--network", "status", "--discv5", "--udp-port", "9000"}, "0.0.0.0:9000"},
		{[]string{"--network", "status", "--listen", "", "--ws-listen", ""}, "0.0.0.0:0"},
		{[]string{"--bootnode", "enr:-", "--listen", "", "--ws-listen", ""}, "127.0.0.1:0"},
	} {
		s, err := parse(c.args)
		require.NoError(t, err, c.args)
		assert.Equal(t, netip.MustParseAddrPort(c.want), s.discovery.udpAddr(s.listenAddrs()), c.args)
	}
}

func TestNetworks(t *testing.T) {
	for _, c := range []struct {
		args    []string
		want    waku.Network
		cluster uint16
		looks   bool
	}{
		{nil, waku.Local, 16, false},
		{[]string{"--network", "local"}, waku.Local, 16, false},
		{[]string{"--network", "local", "--cluster", "7"}, waku.Local, 7, false},
		{[]string{"--network", "status"}, waku.Status, waku.Status.Cluster, true},
		{[]string{"--network", "status-staging"}, waku.StatusStaging, waku.StatusStaging.Cluster, true},
		{[]string{"--dns-tree", "enrtree://KEY@example.org"}, waku.Local, 16, true},
	} {
		s, err := parse(c.args)
		require.NoError(t, err, c.args)
		assert.Equal(t, c.looks, s.discovery.looks(), c.args)
		assert.Equal(t, c.cluster, s.cluster, c.args)
		network := s.network()
		assert.Equal(t, c.cluster, network.Cluster, c.args)
		assert.Equal(t, c.want.Bootnodes, network.Bootnodes, c.args)
		assert.Equal(t, c.want.Private, network.Private, c.args)
	}
}
