package main

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/exampletest"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

var program string

func TestMain(m *testing.M) {
	dir, remove, err := exampletest.Programs("crawl")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "crawl")
	code := m.Run()
	remove()
	os.Exit(code)
}

// patience is for how long to walk: a busy machine takes longer.
var patience = []string{"2s", "5s", "15s"}

// crawl runs the program to its end.
func crawl(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), strings.TrimSuffix(errs.String(), "\n")
}

// resident starts a node that carries shards.
func resident(t *testing.T, shards []uint16, opts ...waku.Option) *waku.Node {
	t.Helper()
	n, err := waku.New(t.Context(), append(opts, waku.WithListenAddrs("/ip4/127.0.0.1/tcp/0"))...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, n.Close()) })
	for _, i := range shards {
		_, err := n.Join(t.Context(), waku.Community{Shard: sharding.Shard{Cluster: n.Network().Cluster, Index: i}})
		require.NoError(t, err)
	}
	return n
}

func nodeKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateSecp256k1Key(nil)
	require.NoError(t, err)
	return key
}

// claim is a record that says of its owner what we like.
func claim(t *testing.T, key crypto.PrivKey, port uint16, cluster uint16, indices ...uint16) *enr.Record {
	t.Helper()
	shards, err := sharding.NewSet(cluster, indices...)
	require.NoError(t, err)
	r, err := enr.Build(key, enr.Fields{
		Seq: 1, IP4: netip.MustParseAddr("127.0.0.1"), TCP: port, Capabilities: enr.Relay, Shards: shards,
	})
	require.NoError(t, err)
	return r
}

// closedPort is a TCP port where nobody listens.
func closedPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

const rude = `<script>alert("1")</script>`

// town starts a dozen nodes that find each other by discv5, and publishes a list of
// others: dead ones, one of another cluster, and one that says it isn't.
func town(t *testing.T) (bootnode, tree, resolver string) {
	t.Helper()
	first := resident(t, []uint16{32, 64, 128}, waku.WithDiscv5("127.0.0.1:0"), waku.WithUserAgent("fleet"),
		waku.WithFilterService(filter.ServerConfig{}))
	var others []*waku.Node
	for i := range 11 {
		agent := []string{"desktop", "fleet", rude}[i%3]
		others = append(others, resident(t, [][]uint16{{32}, {32, 64}, {128}, {64, 128}}[i%4],
			waku.WithDiscv5("127.0.0.1:0"), waku.WithBootnodes(first.ENR()), waku.WithUserAgent(agent)))
	}
	for _, n := range others { // who has found others can be found
		require.Eventually(t, func() bool { return n.Health().Peers > 1 }, 2*time.Minute, 10*time.Millisecond)
	}
	liar := nodeKey(t)
	raw, err := liar.Raw()
	require.NoError(t, err)
	elsewhere := waku.Local
	elsewhere.Cluster = 17
	addr := resident(t, []uint16{5}, waku.WithNetwork(elsewhere), waku.WithNodeKey(raw)).Addrs()[0]
	port := netip.MustParseAddrPort(regexp.MustCompile(`/ip4/(.*)/tcp/(\d+)/.*`).ReplaceAllString(addr, "$1:$2")).Port()

	key := nodeKey(t)
	list, err := dnstest.Publish(key, "nodes.example.org", dnstest.Content{Seq: 1, Records: []*enr.Record{
		claim(t, nodeKey(t), closedPort(t), 16, 32, 256),
		claim(t, nodeKey(t), closedPort(t), 16, 256),
		claim(t, nodeKey(t), closedPort(t), 16),
		claim(t, nodeKey(t), closedPort(t), 1, 2, 3),
		claim(t, liar, port, 16, 128),
	}})
	require.NoError(t, err)
	server, err := dnstest.Serve(dnstest.NewZone(list))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	return first.ENR(), list.URL, server.Addr()
}

// table reads the numbers of a part of the text.
func table(t *testing.T, text, title string) map[string]int {
	t.Helper()
	_, part, found := strings.Cut(text, "\n"+title+"  ")
	require.True(t, found, "%s isn't in\n%s", title, text)
	part, _, _ = strings.Cut(part, "\n\n")
	numbers := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^  (.{24}) +(\d+)`).FindAllStringSubmatch(part, -1) {
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		numbers[strings.TrimSpace(m[1])] = n
	}
	return numbers
}

func TestWalk(t *testing.T) {
	bootnode, tree, resolver := town(t)
	file := filepath.Join(t.TempDir(), "network.html")
	args := []string{"--bootnode", bootnode, "--dns-tree", tree, "--resolver", resolver, "--html", file}
	var text string
	for _, lasts := range patience {
		code, stdout, stderr := crawl(t, append(args, "--for", lasts)...)
		require.Zero(t, code, stderr)
		assert.Empty(t, stderr)
		if text = stdout; strings.Contains(text, ": 17 nodes\n") {
			break
		}
	}
	assert.True(t, strings.HasPrefix(text, "local (cluster 16) in "), text)
	assert.NotContains(t, text, "\x1b", "colours are for terminals")
	for title, want := range map[string]map[string]int{
		"Nodes":        {"reachable": 12, "unreachable": 3, "of another network": 2, "not dialled": 0},
		"Shards":       {"16/32": 8, "16/64": 6, "16/128": 6, "16/256": 2, "none named": 1},
		"Capabilities": {"relay": 15, "filter": 1},
		"Versions":     {"fleet": 5, "desktop": 4, rude[:23] + "…": 3},
		"Sources":      {"static": 1, "discv5": 11, "dns": 5},
		"Networks":     {"cluster 16": 15, "cluster 1": 1, "none named": 1},
	} {
		assert.Equal(t, want, table(t, text, title), title)
	}
	assert.Contains(t, text, "20 % of 15 that were dialled")
	assert.Regexp(t, "DNS list .*: 5 records", text)
	assert.Contains(t, text, "\npicture: "+file+"\n")

	page, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.NotContains(t, string(page), rude)
	assert.Contains(t, string(page), "&lt;script&gt;alert(")
	assert.NotRegexp(t, `(src|href|url)\s*[=(]`, string(page), "it needs nothing else")
	for class, n := range map[string]int{"alive": 12, "dead": 3, "foreign": 2, "untried": 0} {
		legend := 1 + map[string]int{"alive": 1}[class]
		assert.Equal(t, legend+2*n, strings.Count(string(page), `<circle class="dot `+class), class) // in the picture and in the list
	}
}

// A walk that is interrupted shows what it has.
func TestInterrupt(t *testing.T) {
	first := resident(t, []uint16{32}, waku.WithDiscv5("127.0.0.1:0"))
	cmd := exec.Command(program, "--bootnode", first.ENR(), "--for", "1h")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Start())
	kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	events := first.Events(t.Context())
	for e := range events {
		if e.Kind == waku.PeerConnected {
			break // it has been dialled
		}
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait(), "%s", errs.String())
	assert.Contains(t, out.String(), ": 1 node\n")
}

func TestNobodyFound(t *testing.T) {
	key := nodeKey(t)
	list, err := dnstest.Publish(key, "nodes.example.org", dnstest.Content{Seq: 1})
	require.NoError(t, err)
	dead, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	want := "crawl: nobody was found: DNS list nodes.example.org: "
	for _, lasts := range patience {
		code, stdout, stderr := crawl(t, "--dns-tree", list.URL, "--resolver", dead.LocalAddr().String(), "--for", lasts)
		require.Equal(t, 1, code)
		require.Empty(t, stdout)
		require.NotContains(t, stderr, "\n", "one line")
		if strings.HasPrefix(stderr, want) {
			return
		}
	}
	t.Fatal("it doesn't say that DNS failed")
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	good := []string{"--bootnode", "enr:-"}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":             {nil, "nobody to begin with"},
		"local alone":         {[]string{"--network", "local"}, "nobody to begin with"},
		"cluster alone":       {[]string{"--cluster", "1"}, "nobody to begin with"},
		"unknown flag":        {[]string{"--colour"}, "--help lists the flags"},
		"argument":            {append(good, "now"), `unexpected argument "now"`},
		"network unknown":     {[]string{"--network", "waku"}, "want local, status or status-staging"},
		"network and cluster": {[]string{"--network", "status", "--cluster", "1"}, "contradict each other: that network is cluster 16"},
		"cluster too large":   {append(good, "--cluster", "65536"), "a number from 0 to 65535"},
		"bootnode address":    {[]string{"--bootnode", "/ip4/127.0.0.1/tcp/1"}, "want a node's record"},
		"bootnode damaged":    {[]string{"--bootnode", "enr:-abc"}, "--bootnode: enr:-abc"},
		"bootnode elsewhere":  {[]string{"--cluster", "1", "--bootnode", waku.Status.Bootnodes[0]}, "is a node of cluster 16"},
		"tree no URL":         {[]string{"--dns-tree", "example.org"}, "enrtree://KEY@NAME"},
		"tree damaged":        {[]string{"--dns-tree", "enrtree://KEY@example.org"}, "--dns-tree: "},
		"resolver no address": {[]string{"--resolver", "https://dns"}, "such as 1.1.1.1"},
		"resolver alone":      {append(good, "--resolver", "127.0.0.1"), "name one with --dns-tree"},
		"port too large":      {append(good, "--udp-port", "65536"), "a number from 0 to 65535"},
		"no time":             {append(good, "--for", "0s"), "a time from 1s to 1h"},
		"time without unit":   {append(good, "--for", "30"), "a time from 1s to 1h"},
		"page is directory":   {append(good, "--html", dir), "is a directory"},
		"page in none":        {append(good, "--html", filepath.Join(dir, "none", "page.html")), "make it first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := crawl(t, c.args...)
			assert.Equal(t, 2, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, c.want)
			assert.True(t, strings.HasPrefix(stderr, "crawl: "))
			assert.NotContains(t, stderr, "\n", "one line")
		})
	}
	code, stdout, _ := crawl(t, "--help")
	assert.Zero(t, code)
	for _, name := range []string{"network", "cluster", "bootnode", "dns-tree", "resolver", "for", "html", "udp-port"} {
		assert.Contains(t, stdout, "--"+name+" ")
	}
}
