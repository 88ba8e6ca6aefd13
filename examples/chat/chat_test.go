package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/exampletest"
	"github.com/status-im/shoal/waku"
)

var programs string // the directory of the built ones

func TestMain(m *testing.M) {
	dir, remove, err := exampletest.Programs("chat", "servicenode")
	if err != nil {
		panic(err)
	}
	programs = dir
	code := m.Run()
	remove()
	os.Exit(code)
}

// process is a running program whose output can be waited for.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout <-chan string
	stderr <-chan string
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(filepath.Join(programs, name), args...)}
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	p.stdout, p.stderr = scan(stdout), scan(stderr)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	return p
}

func scan(r io.Reader) <-chan string {
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

// expect waits for the next line that contains text.
func (p *process) expect(lines <-chan string, text string) string {
	p.t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				p.t.Fatalf("the program ended before it said %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			p.t.Fatalf("no line with %q", text)
		}
	}
}

func (p *process) write(line string) {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, line+"\n")
	require.NoError(p.t, err)
}

func (p *process) wait() {
	p.t.Helper()
	kill := time.AfterFunc(2*time.Minute, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.stdout { // to its end, before Wait closes the pipe
	}
	for range p.stderr {
	}
	require.NoError(p.t, p.cmd.Wait())
}

// startNode starts a node that protects shard 128 and returns its address and a
// func that waits until it forwards to a number of peers.
func startNode(t *testing.T, public string, args ...string) (addr string, meshed func(peers int)) {
	t.Helper()
	node := start(t, "servicenode", append(args, "--protected-shard", "128="+public, "--metrics", "127.0.0.1:0")...)
	var ready struct {
		Addresses []string
		Metrics   string
	}
	require.NoError(t, json.Unmarshal([]byte(node.expect(node.stdout, "ready")), &ready))
	return ready.Addresses[0], func(peers int) {
		t.Helper()
		want := fmt.Sprintf("waku_relay_mesh_peers{shard=\"16/128\"} %d\n", peers)
		require.Eventually(t, func() bool {
			resp, err := http.Get("http://" + ready.Metrics + "/metrics")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return err == nil && strings.Contains(string(body), want)
		}, 2*time.Minute, 50*time.Millisecond)
	}
}

// newKeyFile makes a community's key and returns its file and public half.
func newKeyFile(t *testing.T) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "community.key")
	out, err := exec.Command(filepath.Join(programs, "chat"), "--new-key", file).Output()
	require.NoError(t, err)
	return file, strings.TrimSpace(string(out))
}

func TestTwoTalkThroughANode(t *testing.T) {
	file, public := newKeyFile(t)
	mode, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), mode.Mode().Perm())

	addr, meshed := startNode(t, public)
	member := func(name string, more ...string) *process {
		return start(t, "chat", append([]string{"--connect", addr, "--shard", "128",
			"--key-file", file, "--name", name}, more...)...)
	}
	ana, ben := member("ana"), member("ben", "--stay")
	ana.expect(ana.stderr, "connected")
	ben.expect(ben.stderr, "connected")
	meshed(2)

	ana.write("hello \x1b[31mben")
	assert.Equal(t, "ana: hello [31mben", ben.expect(ben.stdout, "hello"))
	ben.write("hello ana")
	assert.Equal(t, "ben: hello ana", ana.expect(ana.stdout, "hello"))

	for _, line := range []string{"one", "two", "three", "four"} {
		ana.write(line)
	}
	for _, line := range []string{"one", "two", "three", "four"} {
		assert.Equal(t, "ana: "+line, ben.expect(ben.stdout, "ana: "))
	}

	// The end of input is the end, unless told to stay.
	ben.stdin.Close()
	ana.write("bye")
	ana.stdin.Close()
	ben.expect(ben.stdout, "ana: bye")
	ana.wait()
	require.NoError(t, ben.cmd.Process.Signal(syscall.SIGTERM))
	ben.wait()
}

// Who relays and who doesn't understand each other.
func TestLight(t *testing.T) {
	file, public := newKeyFile(t)
	addr, meshed := startNode(t, public, "--filter", "--lightpush")
	member := func(name string, more ...string) *process {
		return start(t, "chat", append([]string{"--connect", addr, "--key-file", file, "--name", name}, more...)...)
	}
	ana, ben, cleo := member("ana"), member("ben", "--light"), member("cleo", "--light")
	for _, p := range []*process{ana, ben, cleo} {
		p.expect(p.stderr, "connected")
	}
	meshed(1)
	everybody := map[string]*process{"ana": ana, "ben": ben, "cleo": cleo}
	for _, name := range []string{"ben", "ana", "cleo", "ben"} {
		everybody[name].write("hello from " + name)
		for other, p := range everybody {
			if other != name {
				assert.Equal(t, name+": hello from "+name, p.expect(p.stdout, ":"), "heard by %s", other)
			}
		}
	}
	for _, p := range everybody {
		p.stdin.Close()
	}
	for _, p := range everybody {
		p.wait()
	}
}

// A node that only relays is of no use to a light member, who says so.
func TestLightWithoutService(t *testing.T) {
	file, public := newKeyFile(t)
	addr, _ := startNode(t, public)
	s, err := parse([]string{"--connect", addr, "--key-file", file, "--name", "ben", "--light"})
	require.NoError(t, err)
	r, err := enter(t.Context(), s)
	require.NoError(t, err)
	defer r.leave()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r.hear(ctx)
	events := r.node.Events(ctx)
	if r.status().peers == 0 {
		for e := range events {
			if e.Kind == waku.PeerConnected {
				break
			}
		}
	}
	assert.Contains(t, r.status().trouble, "no connected peer serves light members")
	assert.False(t, r.status().ready)
}

func TestWithAnotherKeyNobodyListens(t *testing.T) {
	file, public := newKeyFile(t)
	other, _ := newKeyFile(t)
	addr, meshed := startNode(t, public)
	member := func(name, key string) *process {
		return start(t, "chat", "--connect", addr, "--key-file", key, "--name", name)
	}
	ana, mallory, ben := member("ana", file), member("mallory", other), member("ben", file)
	for _, p := range []*process{ana, mallory, ben} {
		p.expect(p.stderr, "connected")
	}
	meshed(3)
	mallory.write("hello, I'm one of you")
	mallory.stdin.Close()
	mallory.wait() // all it could say is out
	ben.write("hello ana")
	assert.Equal(t, "ben: hello ana", ana.expect(ana.stdout, ":"))
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	good, _ := newKeyFile(t)
	damaged := filepath.Join(dir, "damaged")
	require.NoError(t, os.WriteFile(damaged, []byte("not a key"), 0o600))
	addr := "/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ"
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":              {nil, "--name is missing"},
		"unknown flag":         {[]string{"--colour"}, "--help lists the flags"},
		"argument":             {[]string{"ana"}, `unexpected argument "ana"`},
		"no key":               {[]string{"--name", "ana"}, "--key-file is missing"},
		"key and open":         {[]string{"--name", "ana", "--key-file", good, "--open"}, "contradict"},
		"no such key file":     {[]string{"--name", "ana", "--key-file", filepath.Join(dir, "none")}, "no such file"},
		"damaged key":          {[]string{"--name", "ana", "--key-file", damaged}, "32 bytes in hex"},
		"key is a directory":   {[]string{"--name", "ana", "--key-file", dir}, "--key-file"},
		"empty name":           {[]string{"--name", " "}, "printable"},
		"name with escapes":    {[]string{"--name", "\x1b[31mana"}, "printable"},
		"long name":            {[]string{"--name", strings.Repeat("a", 25)}, "1 to 24"},
		"shard too large":      {[]string{"--shard", "1024"}, "0 to 1023"},
		"shard no number":      {[]string{"--shard", "lobby"}, "0 to 1023"},
		"topic of two parts":   {[]string{"--topic", "/lobby/json"}, "/application/version/room/encoding"},
		"topic without slash":  {[]string{"--topic", "town/1/lobby/json"}, "/application/version/room/encoding"},
		"connect no address":   {[]string{"--connect", "example.org:30303"}, "not a node's address"},
		"connect without id":   {[]string{"--connect", "/ip4/127.0.0.1/tcp/1"}, "/p2p/"},
		"listen no address":    {[]string{"--listen", ":30303"}, "not a multiaddr"},
		"nobody to meet":       {[]string{"--name", "ana", "--key-file", good, "--listen", ""}, "nobody could be met"},
		"light and alone":      {[]string{"--name", "ana", "--key-file", good, "--light"}, "--light needs --connect"},
		"network unknown":      {[]string{"--network", "waku"}, "want local, own, status or status-staging"},
		"shard of another":     {[]string{"--name", "ana", "--key-file", good, "--network", "status", "--shard", "1/5"}, "isn't one of network status (cluster 16)"},
		"bootnode address":     {[]string{"--bootnode", addr}, "addresses go to --connect"},
		"bootnode damaged":     {[]string{"--name", "ana", "--key-file", good, "--bootnode", "enr:-abc"}, "--bootnode: enr:-abc"},
		"bootnode elsewhere":   {[]string{"--name", "ana", "--key-file", good, "--shard", "1/5", "--bootnode", waku.Status.Bootnodes[0]}, "is a node of cluster 16"},
		"tree no URL":          {[]string{"--dns-tree", "nodes.example.org"}, "enrtree://KEY@NAME"},
		"tree damaged":         {[]string{"--name", "ana", "--key-file", good, "--dns-tree", "enrtree://KEY@nodes.example.org"}, "--dns-tree: "},
		"resolver no address":  {[]string{"--resolver", "https://dns"}, "such as 1.1.1.1"},
		"resolver alone":       {[]string{"--name", "ana", "--key-file", good, "--resolver", "127.0.0.1"}, "name one with --dns-tree"},
		"new key over old":     {[]string{"--new-key", good}, "isn't overwritten"},
		"new key in no folder": {[]string{"--new-key", filepath.Join(dir, "none", "key")}, "make it first"},
		"connect and argument": {[]string{"--connect", addr, "--name", "ana", "hello"}, `unexpected argument "hello"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(filepath.Join(programs, "chat"), c.args...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			require.Error(t, cmd.Run())
			assert.Equal(t, 2, cmd.ProcessState.ExitCode())
			assert.Empty(t, stdout.String())
			line := strings.TrimRight(stderr.String(), "\n")
			assert.True(t, strings.HasPrefix(line, "chat: "), line)
			assert.NotContains(t, line, "\n", "one line")
			assert.Contains(t, line, c.want)
		})
	}
}

func TestHelp(t *testing.T) {
	out, err := exec.Command(filepath.Join(programs, "chat"), "--help").Output()
	require.NoError(t, err)
	for _, name := range []string{"connect", "shard", "key-file", "name", "listen", "topic", "light", "new-key",
		"network", "bootnode", "dns-tree", "resolver"} {
		assert.Contains(t, string(out), "--"+name+" ")
	}
}
