package main

import (
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/waku"
)

// begin starts a node with a record for others to begin with.
func begin(t *testing.T, public string, args ...string) (record string, node *process) {
	t.Helper()
	node = start(t, "servicenode", append(args, "--shards", "128", "--protected-shard", "128="+public)...)
	var ready struct{ ENR string }
	require.NoError(t, json.Unmarshal([]byte(node.expect(node.stdout, "ready")), &ready))
	return ready.ENR, node
}

// Members who know one node's record meet there, relaying or not.
func TestFindsByRecord(t *testing.T) {
	t.Parallel()
	file, public := newKeyFile(t)
	first, _ := begin(t, public, "--discv5", "--peer-exchange", "--filter", "--lightpush")
	second, _ := begin(t, public, "--bootnode", first)
	member := func(name string, more ...string) *process {
		return start(t, "chat", append([]string{"--key-file", file, "--name", name}, more...)...)
	}
	ana, ben := member("ana", "--bootnode", second), member("ben", "--bootnode", first, "--light")
	ana.expect(ana.stderr, "connected")
	ben.expect(ben.stderr, "connected")
	ben.write("hello ana")
	assert.Equal(t, "ben: hello ana", ana.expect(ana.stdout, ":"))
	ana.write("hello ben")
	assert.Equal(t, "ana: hello ben", ben.expect(ben.stdout, ":"))
}

// Who finds nobody is told why.
func TestSaysWhyNobodyIsFound(t *testing.T) {
	t.Parallel()
	file, public := newKeyFile(t)
	record, node := begin(t, public, "--discv5")
	require.NoError(t, node.cmd.Process.Kill())
	node.cmd.Wait()
	dead, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, dead.Close())
	tree := waku.Status.DNSTrees[0] // which the resolver doesn't know

	for want, args := range map[string][]string{
		"none could be reached":                                {"--bootnode", record},
		"DNS tree boot.prod.status.nodes.status.im: no answer": {"--dns-tree", tree, "--resolver", dead.LocalAddr().String()},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			p := start(t, "chat", append(args, "--key-file", file, "--name", "ana")...)
			assert.Contains(t, p.expect(p.stderr, "nobody hears you: "), want)
		})
	}
}

func TestNetwork(t *testing.T) {
	file, _ := newKeyFile(t)
	for _, c := range []struct {
		args   []string
		name   string
		listen []string
	}{
		{nil, "local", []string{"/ip4/127.0.0.1/tcp/0"}},
		{[]string{"--network", "status"}, "status", []string{"/ip4/0.0.0.0/tcp/0"}},
		{[]string{"--network", "status-staging", "--light"}, "status-staging", nil},
		{[]string{"--network", "status", "--listen", ""}, "status", nil},
	} {
		s, err := parse(append(c.args, "--shard", "128", "--key-file", file, "--name", "ana"))
		require.NoError(t, err, c.args)
		assert.Equal(t, c.name, s.finding.network.Name)
		assert.Equal(t, c.listen, s.listen, c.args)
	}
	s, err := parse([]string{"--shard", "7/128", "--key-file", file, "--name", "ana"})
	require.NoError(t, err)
	assert.EqualValues(t, 7, s.finding.network.Cluster)
}

func TestWorry(t *testing.T) {
	var w worry
	now := time.Now()
	alone := func(why string) status { return status{trouble: "alone", why: why} }
	look := func(after time.Duration, s status) string { return w.look(now.Add(after), s) }
	assert.Empty(t, look(0, alone("trying 3 nodes")))
	assert.Empty(t, look(worryAfter-1, alone("trying 3 nodes")), "it may pass")
	assert.Equal(t, "trying 3 nodes", look(worryAfter, alone("trying 3 nodes")))
	assert.Empty(t, look(worryAfter+worryPause, alone("trying 2 nodes")), "is no news")
	assert.Empty(t, look(worryAfter+worryPause-1, alone("none answers")), "too soon")
	assert.Equal(t, "none answers", look(worryAfter+worryPause, alone("none answers")))
	assert.Empty(t, look(time.Minute, alone("none answers")), "once is enough")
	assert.Empty(t, look(time.Minute, status{ready: true}))
	assert.Empty(t, look(time.Minute, alone("none answers")), "it may pass again")
	assert.Equal(t, "none answers", look(time.Minute+worryAfter, alone("none answers")))
}
