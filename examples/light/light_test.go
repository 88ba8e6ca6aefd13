package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/exampletest"
	"github.com/status-im/shoal/lightpush"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

var program string

func TestMain(m *testing.M) {
	dir, remove, err := exampletest.Programs("light")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "light")
	code := m.Run()
	remove()
	os.Exit(code)
}

var shard = sharding.Shard{Cluster: 16, Index: 128}

// relaying starts a node that relays the community's shard.
func relaying(t *testing.T, key *dosguard.PrivateKey, opts ...waku.Option) (*waku.Node, *waku.Membership) {
	t.Helper()
	node, err := waku.New(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, node.Close()) })
	m, err := node.Join(t.Context(), waku.Community{Shard: shard, PublicKey: key.PublicKey()}, waku.SignWith(key))
	require.NoError(t, err)
	return node, m
}

// meshed waits until a node has somebody to relay to.
func meshed(t *testing.T, events func(func(waku.Event) bool), node *waku.Node) {
	t.Helper()
	if node.Health().State != waku.Unhealthy {
		return
	}
	for e := range events {
		if e.Kind == waku.ShardHealthChanged && e.State != waku.Unhealthy {
			return
		}
	}
	t.Fatal("no mesh")
}

func TestTalksWithTheCommunity(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	key, err := dosguard.GenerateKey()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "community.key")
	require.NoError(t, os.WriteFile(file, []byte(key.Hex()+"\n"), 0o600))

	service, _ := relaying(t, key, waku.WithFilterService(filter.ServerConfig{}), waku.WithLightPushService(lightpush.ServerConfig{}))
	events := service.Events(ctx)
	ana, anas := relaying(t, key, waku.WithStaticPeers(service.Addrs()[0]))
	anasEvents := ana.Events(ctx)
	reader, err := anas.Subscribe(topic)
	require.NoError(t, err)
	meshed(t, events, service)
	meshed(t, anasEvents, ana)

	light := exec.CommandContext(ctx, program, "--connect", service.Addrs()[0], "--shard", "128", "--key-file", file)
	stdin, err := light.StdinPipe()
	require.NoError(t, err)
	stdout, err := light.StdoutPipe()
	require.NoError(t, err)
	stderr, err := light.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, light.Start())
	heard, log := bufio.NewScanner(stdout), bufio.NewScanner(stderr)
	for log.Scan() && !strings.Contains(log.Text(), "is minimal") {
	}
	require.NoError(t, log.Err())
	go io.Copy(io.Discard, stderr)

	for i := range 5 {
		text := fmt.Sprintf("message %d \x1b[31m", i)
		_, err = anas.Send(ctx, topic, []byte(text))
		require.NoError(t, err)
		require.True(t, heard.Scan())
		assert.Equal(t, fmt.Sprintf("%q", text), heard.Text())
		own, err := reader.Next(ctx)
		require.NoError(t, err)
		assert.Equal(t, text, string(own.Message.Payload))

		_, err = fmt.Fprintf(stdin, "answer %d\n", i)
		require.NoError(t, err)
		env, err := reader.Next(ctx)
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintf("answer %d", i), string(env.Message.Payload))
		require.True(t, heard.Scan())
		assert.Equal(t, fmt.Sprintf("%q", fmt.Sprintf("answer %d", i)), heard.Text(), "its own, once")
	}
	require.NoError(t, light.Process.Signal(os.Interrupt))
	assert.False(t, heard.Scan(), "and nothing else: %s", heard.Text())
	require.NoError(t, light.Wait())
}

func TestBadInput(t *testing.T) {
	good := filepath.Join(t.TempDir(), "community.key")
	key, err := dosguard.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(good, []byte(key.Hex()), 0o600))
	for want, args := range map[string][]string{
		"no such file":       {"--key-file", filepath.Join(t.TempDir(), "none")},
		"bad private key":    {"--key-file", "main.go"},
		"shard":              {"--key-file", good, "--shard", "1024"},
		`"" is no multiaddr`: {"--key-file", good},
		"WithStaticPeers":    {"--key-file", good, "--connect", "example.org"},
	} {
		out, err := exec.Command(program, args...).CombinedOutput()
		assert.Error(t, err)
		assert.Contains(t, string(out), want)
	}
}

// What it takes is counted without imports, comments and blank lines.
func TestIsShort(t *testing.T) {
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	_, code, found := strings.Cut(string(source), "\n)\n")
	require.True(t, found)
	lines := 0
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines++
		}
	}
	assert.Less(t, lines, 40)
}
