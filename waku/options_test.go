package waku_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

func accept(context.Context, *message.Received) message.Verdict { return message.Accept }

// Every wrong option gives one line that names it and says what to do.
func TestWrongOptions(t *testing.T) {
	key := newKey(t).PublicKey()
	h := p2ptest.Hosts(t, 1)[0]
	peerAddr := "/ip4/127.0.0.1/tcp/1/p2p/" + h.ID().String()
	own := waku.GenerateNodeKey()
	ed25519, _, err := crypto.GenerateEd25519Key(rand.Reader)
	require.NoError(t, err)
	wrongHost, err := libp2p.New(libp2p.Identity(ed25519), libp2p.NoListenAddrs, libp2p.DisableMetrics())
	require.NoError(t, err)
	defer wrongHost.Close()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	takenAddr := "/ip4/127.0.0.1/tcp/" + taken.Addr().String()[len("127.0.0.1:"):]
	registry := prometheus.NewRegistry()
	start(t, oneSocket(), waku.WithMetrics(registry))
	other := sharding.Shard{Cluster: 1, Index: 3}

	for name, c := range map[string]struct {
		opts []waku.Option
		want []string // names and hints in the error
	}{
		"nil option":            {[]waku.Option{nil}, []string{"option is nil"}},
		"twice":                 {[]waku.Option{oneSocket(), waku.WithMaxConns(3), oneSocket()}, []string{"WithListenAddrs and WithListenAddrs", "give it once"}},
		"nil host":              {[]waku.Option{waku.WithHost(nil)}, []string{"WithHost", "makes its own"}},
		"host and addresses":    {[]waku.Option{oneSocket(), waku.WithHost(h)}, []string{"WithHost and WithListenAddrs", "one of the two"}},
		"host and key":          {[]waku.Option{waku.WithHost(h), waku.WithNodeKey(own)}, []string{"WithHost and WithNodeKey", "one of the two"}},
		"host and agent":        {[]waku.Option{waku.WithUserAgent("x"), waku.WithHost(h)}, []string{"WithHost and WithUserAgent"}},
		"host and conns":        {[]waku.Option{waku.WithMaxConns(9), waku.WithHost(h)}, []string{"WithHost and WithMaxConns"}},
		"host and NAT":          {[]waku.Option{waku.WithHost(h), waku.WithNAT()}, []string{"WithHost and WithNAT", "one of the two"}},
		"host and mapping":      {[]waku.Option{waku.WithPortMapping(), waku.WithHost(h)}, []string{"WithHost and WithPortMapping"}},
		"host and external IP":  {[]waku.Option{waku.WithExternalIP("192.0.2.7"), waku.WithHost(h)}, []string{"WithHost and WithExternalIP"}},
		"NAT and external IP":   {[]waku.Option{waku.WithExternalIP("192.0.2.7"), waku.WithNAT()}, []string{"WithExternalIP and WithNAT", "one of the two"}},
		"external IP":           {[]waku.Option{waku.WithExternalIP("example.org")}, []string{"WithExternalIP", "203.0.113.7"}},
		"two external IPs":      {[]waku.Option{waku.WithExternalIP("192.0.2.7", "192.0.2.8")}, []string{"WithExternalIP", "one of each kind"}},
		"private external IP":   {[]waku.Option{waku.WithNetwork(waku.Status), waku.WithExternalIP("10.0.0.7")}, []string{"WithExternalIP", "strangers"}},
		"host of another kind":  {[]waku.Option{waku.WithHost(wrongHost)}, []string{"WithHost", "secp256k1", "libp2p.Identity"}},
		"size":                  {[]waku.Option{waku.WithMaxMessageSize(0)}, []string{"WithMaxMessageSize", "positive"}},
		"network's size":        {[]waku.Option{waku.WithNetwork(waku.Network{MaxMessageSize: -1})}, []string{"WithNetwork", "positive"}},
		"short key":             {[]waku.Option{waku.WithNodeKey([]byte("short"))}, []string{"WithNodeKey", "5 bytes, want 32"}},
		"zero key":              {[]waku.Option{waku.WithNodeKey(make([]byte, 32))}, []string{"WithNodeKey", "GenerateNodeKey"}},
		"agent":                 {[]waku.Option{waku.WithUserAgent(strings.Repeat("x", 65))}, []string{"WithUserAgent", "64"}},
		"no multiaddr":          {[]waku.Option{waku.WithListenAddrs("127.0.0.1:60000")}, []string{"WithListenAddrs", `"127.0.0.1:60000"`, "/ip4/0.0.0.0/tcp/60000"}},
		"name to listen on":     {[]waku.Option{waku.WithListenAddrs("/dns4/example.org/tcp/1")}, []string{"WithListenAddrs", "IP address"}},
		"listen with id":        {[]waku.Option{waku.WithListenAddrs(peerAddr)}, []string{"WithListenAddrs", "/p2p"}},
		"listen by TLS":         {[]waku.Option{waku.WithListenAddrs("/ip4/127.0.0.1/tcp/0/wss")}, []string{"WithListenAddrs", "proxy"}},
		"listen by UDP":         {[]waku.Option{waku.WithListenAddrs("/ip4/127.0.0.1/udp/0")}, []string{"WithListenAddrs", "QUIC"}},
		"port in use":           {[]waku.Option{waku.WithListenAddrs("/ip4/127.0.0.1/udp/0/quic-v1", takenAddr)}, []string{"WithListenAddrs", takenAddr, "another address or port"}},
		"static without id":     {[]waku.Option{waku.WithStaticPeers("/ip4/127.0.0.1/tcp/1")}, []string{"WithStaticPeers", "/p2p/"}},
		"static without place":  {[]waku.Option{waku.WithStaticPeers("/p2p/" + h.ID().String())}, []string{"WithStaticPeers", "where"}},
		"static no multiaddr":   {[]waku.Option{waku.WithStaticPeers("enr:-abc")}, []string{"WithStaticPeers", `"enr:-abc"`}},
		"static self":           {[]waku.Option{waku.WithHost(h), waku.WithStaticPeers(peerAddr)}, []string{"WithStaticPeers", "itself"}},
		"empty profile":         {[]waku.Option{waku.WithRelayProfile(relay.Profile{})}, []string{"WithRelayProfile", "relay.Default()"}},
		"wrong profile":         {[]waku.Option{waku.WithRelayProfile(relay.Profile{D: -1})}, []string{"WithRelayProfile", "-1"}},
		"conns":                 {[]waku.Option{waku.WithMaxConns(0)}, []string{"WithMaxConns", "positive"}},
		"conns per address":     {[]waku.Option{waku.WithMaxConnsPerIP(-1)}, []string{"WithMaxConnsPerIP", "positive"}},
		"conns contradict":      {[]waku.Option{waku.WithMaxConnsPerIP(20), waku.WithMaxConns(10)}, []string{"WithMaxConns and WithMaxConnsPerIP", "20", "10"}},
		"budget":                {[]waku.Option{waku.WithPeerBudget(dosguard.PeerBudgetConfig{Messages: -1})}, []string{"WithPeerBudget", "negative"}},
		"window":                {[]waku.Option{waku.WithMessageWindow(-time.Second)}, []string{"WithMessageWindow", "5m"}},
		"protected elsewhere":   {[]waku.Option{waku.WithProtectedShard(other, key)}, []string{"WithProtectedShard and WithNetwork", "1/3", "cluster 16"}},
		"protected beyond":      {[]waku.Option{waku.WithProtectedShard(sharding.Shard{Cluster: 16, Index: 1024}, key)}, []string{"WithProtectedShard", "1024"}},
		"protected without key": {[]waku.Option{waku.WithProtectedShard(town)}, []string{"WithProtectedShard", "key"}},
		"protected by nil":      {[]waku.Option{waku.WithProtectedShard(town, key, nil)}, []string{"WithProtectedShard", "key"}},
		"nil validator":         {[]waku.Option{waku.WithValidator(town, nil)}, []string{"WithValidator", "nil"}},
		"validator elsewhere":   {[]waku.Option{waku.WithValidator(other, accept)}, []string{"WithValidator and WithNetwork"}},
		"validator time":        {[]waku.Option{waku.WithValidator(town, accept, waku.ValidatorTimeout(0))}, []string{"WithValidator", "ValidatorTimeout"}},
		"validator names": {[]waku.Option{waku.WithValidator(town, accept), waku.WithValidator(town, accept)},
			[]string{"WithValidator", "waku_test.accept", "ValidatorName"}},
		"one registry": {[]waku.Option{waku.WithMetrics(registry)}, []string{"WithMetrics", "WrapRegistererWith"}},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := waku.New(within(t), c.opts...)
			require.Nil(t, n)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "\n")
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			// The order of options doesn't matter.
			reversed := append([]waku.Option(nil), c.opts...)
			for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
				reversed[i], reversed[j] = reversed[j], reversed[i]
			}
			_, again := waku.New(within(t), reversed...)
			require.EqualError(t, again, err.Error())
		})
	}
}

func TestNewWithoutOptions(t *testing.T) {
	n := start(t)
	require.Equal(t, waku.Local.Cluster, n.Network().Cluster)
	addrs := n.Addrs()
	require.Len(t, addrs, 3)
	for _, a := range addrs {
		require.True(t, strings.HasPrefix(a, "/ip4/127.0.0.1/"), a)
		require.True(t, strings.HasSuffix(a, "/p2p/"+n.PeerID().String()), a)
	}
	require.Contains(t, addrs[0]+addrs[1]+addrs[2], "/quic-v1/")
	require.Contains(t, addrs[0]+addrs[1]+addrs[2], "/ws/")
	h := n.Health()
	require.Equal(t, waku.Unhealthy, h.State)
	require.Equal(t, "no shard is joined", h.Summary)
	require.Empty(t, n.Peers())
}

func TestNewWhenLate(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n, err := waku.New(ctx)
	require.Nil(t, n)
	require.ErrorIs(t, err, context.Canceled)
}

func TestNodeKeys(t *testing.T) {
	key := waku.GenerateNodeKey()
	a := start(t, oneSocket(), waku.WithNodeKey(key))
	require.NoError(t, a.Close())
	text := " 0x" + strings.ToUpper(hex.EncodeToString(key)) + "\n"
	parsed, err := waku.ParseNodeKey(text)
	require.NoError(t, err)
	require.Equal(t, key, parsed)
	require.Equal(t, a.PeerID(), start(t, oneSocket(), waku.WithNodeKey(parsed)).PeerID())

	for _, bad := range []string{"", "xyz", hex.EncodeToString(key)[2:], hex.EncodeToString(key) + "00", strings.Repeat("00", 32), strings.Repeat("ff", 32)} {
		_, err := waku.ParseNodeKey(bad)
		require.ErrorContains(t, err, "node key")
		require.NotContains(t, err.Error(), "\n")
	}
}
