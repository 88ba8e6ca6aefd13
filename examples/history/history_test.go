package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/exampletest"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

var programs string // the directory of the built ones

func TestMain(m *testing.M) {
	dir, remove, err := exampletest.Programs("history", "servicenode")
	if err != nil {
		panic(err)
	}
	programs = dir
	code := m.Run()
	remove()
	os.Exit(code)
}

var town = waku.Community{Shard: sharding.Shard{Cluster: 16, Index: 128}}

// serve starts a servicenode and returns its address.
func serve(t *testing.T, args ...string) (addr string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, "servicenode"), append(args, "--ws-listen", "")...)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var ready struct{ Addresses []string }
	require.NoError(t, json.NewDecoder(stdout).Decode(&ready))
	return ready.Addresses[0]
}

// join starts a member's node that is connected with a servicenode.
func join(t *testing.T, key *dosguard.PrivateKey, addr string) (*waku.Node, *waku.Membership) {
	t.Helper()
	node, err := waku.New(t.Context(), waku.WithStaticPeers(addr))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, node.Close()) })
	c := town
	c.PublicKey = key.PublicKey()
	m, err := node.Join(t.Context(), c, waku.SignWith(key))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return node.Health().Shards[0].Mesh > 0 }, 2*time.Minute, 20*time.Millisecond)
	return node, m
}

// history runs the program to its end.
func history(t *testing.T, args ...string) (code int, lines []string, stderr string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(programs, "history"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	cmd.Run()
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return cmd.ProcessState.ExitCode(), lines, strings.TrimSuffix(errs.String(), "\n")
}

func TestLatecomer(t *testing.T) {
	key, err := dosguard.GenerateKey()
	require.NoError(t, err)
	public := key.PublicKey().Hex()
	addr := serve(t, "--shards", "128", "--protected-shard", "128="+public,
		"--store", "sqlite:"+filepath.Join(t.TempDir(), "store.db"))

	node, m := join(t, key, addr)
	topics := []string{"/test/1/lobby/plain", "/test/1/kitchen/plain"}
	var said []string
	for i := range 150 {
		topic := topics[i%3/2] // every third in the kitchen
		d, err := m.Send(t.Context(), topic, fmt.Appendf(nil, "number %d", i))
		require.NoError(t, err)
		require.NoError(t, d.Wait(t.Context(), waku.Propagated))
		said = append(said, fmt.Sprintf("%s number %d", topic, i))
	}

	args := []string{"--connect", addr, "--shard", "16/128", "--public-key", public}
	read := func(more ...string) []string {
		t.Helper()
		code, lines, stderr := history(t, append(slices.Clone(args), more...)...)
		require.Zero(t, code, stderr)
		require.Empty(t, stderr)
		for i, line := range lines {
			_, err := time.ParseInLocation("2006-01-02 15:04:05.000", line[:23], time.Local)
			require.NoError(t, err)
			lines[i] = line[24:]
		}
		return lines
	}
	// What was sent last may still be on its way, so the author stays for it.
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.Equal(c, said, read()) }, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, node.Close())
	backward := slices.Clone(said)
	slices.Reverse(backward)
	assert.Equal(t, backward, read("--backward"))
	assert.Equal(t, backward[:7], read("--backward", "--limit", "7"))
	assert.Equal(t, said[:120], read("--limit", "120", "--since", "1d"))
	assert.Empty(t, read("--since", "1ns"))
	kitchen := slices.DeleteFunc(slices.Clone(said), func(s string) bool { return !strings.HasPrefix(s, topics[1]) })
	assert.Len(t, kitchen, 50)
	assert.Equal(t, kitchen, read("--topic", topics[1]))
	assert.Equal(t, said, read("--topic", topics[1], "--topic", topics[0]))
	assert.Equal(t, said, read("--follow", "--limit", "150"))

	// Who follows hears what is said now, after all the rest.
	cmd := exec.Command(filepath.Join(programs, "history"), append(args, "--follow")...)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(stdout)
	for _, want := range said {
		require.True(t, lines.Scan())
		require.Equal(t, want, lines.Text()[24:])
	}
	_, m = join(t, key, addr)
	for i := range 3 {
		want := fmt.Sprintf("live %d \x1b[31m", i)
		_, err := m.Send(t.Context(), topics[0], []byte(want))
		require.NoError(t, err)
		require.True(t, lines.Scan())
		require.Equal(t, fmt.Sprintf("%s %q", topics[0], want), lines.Text()[24:])
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.False(t, lines.Scan(), "and nothing else: %s", lines.Text())
	require.NoError(t, cmd.Wait())
}

func TestNothingToRead(t *testing.T) {
	storeless := serve(t)
	for want, args := range map[string][]string{
		"keeps no messages": {"--connect", storeless},
		"connection refused": {"--connect",
			"/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ"},
		"no peers": {"--connect", storeless, "--shard", "1/128"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			code, lines, stderr := history(t, args...)
			assert.Equal(t, 1, code)
			assert.Empty(t, lines)
			assert.Contains(t, stderr, want)
			assert.NotContains(t, stderr, "\n")
		})
	}
}

func TestBadInput(t *testing.T) {
	const addr = "/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ"
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":            {nil, "--connect is missing"},
		"unknown flag":       {[]string{"--colour"}, "--help lists the flags"},
		"argument":           {[]string{addr}, "unexpected argument"},
		"no address":         {[]string{"--connect", "example.org"}, "not a node's address"},
		"bad shard":          {[]string{"--connect", addr, "--shard", "1024"}, "a shard is a number"},
		"bad key":            {[]string{"--connect", addr, "--public-key", "02ab"}, "not a public key"},
		"bad topic":          {[]string{"--connect", addr, "--topic", "lobby"}, "want /application/"},
		"since without unit": {[]string{"--connect", addr, "--since", "24"}, "90m, 24h or 7d"},
		"since zero":         {[]string{"--connect", addr, "--since", "0d"}, "90m, 24h or 7d"},
		"since the future":   {[]string{"--connect", addr, "--since", "-1h"}, "90m, 24h or 7d"},
		"since for ever":     {[]string{"--connect", addr, "--since", "999999999d"}, "90m, 24h or 7d"},
		"limit zero":         {[]string{"--connect", addr, "--limit", "0"}, "1 or more"},
		"follow backward":    {[]string{"--connect", addr, "--follow", "--backward"}, "contradict"},
	} {
		t.Run(name, func(t *testing.T) {
			code, lines, stderr := history(t, c.args...)
			assert.Equal(t, 2, code)
			assert.Empty(t, lines)
			assert.Contains(t, stderr, c.want)
			assert.True(t, strings.HasPrefix(stderr, "history: "))
			assert.NotContains(t, stderr, "\n", "one line")
		})
	}
	code, lines, _ := history(t, "--help")
	assert.Zero(t, code)
	assert.Contains(t, strings.Join(lines, "\n"), "--public-key key")
}

// What anybody may write does nothing to a terminal.
func TestLine(t *testing.T) {
	m := &message.Message{Payload: []byte("grüße 👋"), ContentTopic: "/t/1/a/b", Timestamp: 1}
	assert.True(t, strings.HasSuffix(line(m), " /t/1/a/b grüße 👋"), line(m))
	m.Payload, m.ContentTopic = []byte{0xff, '\n', 0x9b}, "/t\r/1/a/b"
	assert.True(t, strings.HasSuffix(line(m), ` "/t\r/1/a/b" "\xff\n\x9b"`), line(m))
}
