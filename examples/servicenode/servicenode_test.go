package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/exampletest"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/waku"
)

var program string

func TestMain(m *testing.M) {
	dir, remove, err := exampletest.Programs("servicenode")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "servicenode")
	code := m.Run()
	remove()
	os.Exit(code)
}

// running is a servicenode that has said it is ready.
type running struct {
	cmd    *exec.Cmd
	line   ready
	stdout *bufio.Reader
	stderr *bytes.Buffer
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(program, args...), stderr: &bytes.Buffer{}}
	r.cmd.Stderr = r.stderr
	pipe, err := r.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		r.cmd.Wait()
	})
	r.stdout = bufio.NewReader(pipe)
	line, err := r.stdout.ReadBytes('\n')
	if err != nil {
		r.cmd.Wait()
		t.Fatalf("no ready line: %s", r.stderr)
	}
	require.NoError(t, json.Unmarshal(line, &r.line), "%s", line)
	return r
}

// end sends SIGTERM and expects a clean end and nothing more on stdout.
func (r *running) end(t *testing.T) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	kill := time.AfterFunc(2*time.Minute, func() { r.cmd.Process.Kill() })
	defer kill.Stop()
	rest, err := io.ReadAll(r.stdout)
	require.NoError(t, err)
	assert.Empty(t, string(rest))
	require.NoError(t, r.cmd.Wait(), "%s", r.stderr)
}

func publicKey(t *testing.T) string {
	key, err := dosguard.GenerateKey()
	require.NoError(t, err)
	return key.PublicKey().Hex()
}

func TestReadyLineMetricsAndSIGTERM(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.key")
	args := []string{
		"--cluster", "16", "--shards", "32,64,128",
		"--listen", "/ip4/127.0.0.1/tcp/0", "--ws-listen", "/ip4/127.0.0.1/tcp/0/ws",
		"--nodekey-file", file,
		"--protected-shard", "128=" + publicKey(t), "--protected-shard", "128=" + publicKey(t),
		"--max-conns-per-ip", "10", "--mesh-degree", "24", "--metrics", "127.0.0.1:0",
	}
	r := start(t, args...)
	assert.Equal(t, "ready", r.line.Event)
	assert.EqualValues(t, 16, r.line.Cluster)
	assert.Equal(t, []uint16{32, 64, 128}, r.line.Shards)
	assert.True(t, strings.HasPrefix(r.line.ENR, "enr:"), r.line.ENR)
	require.Len(t, r.line.Addresses, 2)
	ws := 0
	for _, addr := range r.line.Addresses {
		info, err := peer.AddrInfoFromString(addr)
		require.NoError(t, err)
		assert.Equal(t, r.line.PeerID, info.ID.String())
		if strings.Contains(addr, "/ws/") {
			ws++
		}
	}
	assert.Equal(t, 1, ws)

	resp, err := http.Get("http://" + r.line.Metrics + "/metrics")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Contains(t, string(body), "go_goroutines")
	assert.Contains(t, string(body), "waku_")
	r.end(t)

	mode, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), mode.Mode().Perm())
	again := start(t, args...)
	assert.Equal(t, r.line.PeerID, again.line.PeerID, "the identity is kept")
	again.end(t)
}

func TestEndsWhileConnectingToNobody(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := closed.Addr().(*net.TCPAddr).Port
	closed.Close()
	addr := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ", port)
	start(t, "--listen", "", "--ws-listen", "", "--connect", addr).end(t)
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	key := publicKey(t)
	for name, c := range map[string]struct {
		args []string
		want string // in the line
	}{
		"unknown flag":        {[]string{"--colour"}, "--help lists the flags"},
		"argument":            {[]string{"start"}, `unexpected argument "start"`},
		"no value":            {[]string{"--cluster"}, "flag needs an argument"},
		"cluster not number":  {[]string{"--cluster", "status"}, "a number from 0 to 65535"},
		"cluster too large":   {[]string{"--cluster", "65536"}, "a number from 0 to 65535"},
		"cluster negative":    {[]string{"--cluster", "-1"}, "a number from 0 to 65535"},
		"shard too large":     {[]string{"--shards", "1024"}, "a number from 0 to 1023"},
		"shard not number":    {[]string{"--shards", "32,lobby"}, `"lobby" is not a shard`},
		"no shards":           {[]string{"--shards", ""}, `"" is not a shard`},
		"shard twice":         {[]string{"--shards", "32,32"}, "shard 32 is listed twice"},
		"listen not address":  {[]string{"--listen", "0.0.0.0:30303"}, "not a multiaddr, such as /ip4/"},
		"listen on UDP":       {[]string{"--listen", "/ip4/127.0.0.1/udp/0"}, "want a TCP or QUIC address"},
		"listen with peer":    {[]string{"--listen", "/ip4/127.0.0.1/tcp/0/p2p/16Uiu2HAmPLe7Mzm8TsYUubgCAW1aJoeFScxrLj8ppHFivPo97bUZ"}, "leave out /p2p/"},
		"ws in listen":        {[]string{"--listen", "/ip4/127.0.0.1/tcp/0/ws"}, "go to --ws-listen"},
		"tcp in ws-listen":    {[]string{"--ws-listen", "/ip4/127.0.0.1/tcp/0"}, "want a WebSocket address"},
		"nobody to meet":      {[]string{"--listen", "", "--ws-listen", ""}, "would meet nobody"},
		"connect no address":  {[]string{"--connect", "node-01.example.org"}, "not a peer's address"},
		"connect without id":  {[]string{"--connect", "/ip4/203.0.113.7/tcp/30303"}, "/p2p/16Uiu2"},
		"protected no key":    {[]string{"--protected-shard", "128"}, "write SHARD=HEXPUBLICKEY"},
		"protected bad key":   {[]string{"--protected-shard", "128=02abcd"}, "not a public key"},
		"protected private":   {[]string{"--protected-shard", "128=" + strings.Repeat("11", 32)}, "not a public key"},
		"protected bad shard": {[]string{"--protected-shard", "2000=" + key}, "not a shard"},
		"protected elsewhere": {[]string{"--shards", "32", "--protected-shard", "128=" + key}, "add it to --shards"},
		"no connections":      {[]string{"--max-conns-per-ip", "0"}, "1 or more"},
		"none at all":         {[]string{"--max-conns", "0"}, "a number from 1 to 1000000"},
		"mesh too small":      {[]string{"--mesh-degree", "2"}, "from 6 to"},
		"metrics no port":     {[]string{"--metrics", "127.0.0.1"}, "want host:port"},
		"store nowhere":       {[]string{"--store", "files"}, "want sqlite:PATH or postgres://"},
		"store empty":         {[]string{"--store", ""}, "want sqlite:PATH or postgres://"},
		"store no file":       {[]string{"--store", "sqlite:"}, "sqlite:PATH"},
		"store is directory":  {[]string{"--store", "sqlite:" + dir}, "is a directory"},
		"store no directory":  {[]string{"--store", "sqlite:" + filepath.Join(dir, "none", "db")}, "make it first"},
		"store other file":    {[]string{"--store", "sqlite:" + file("text", "not a database")}, "not an archive"},
		"store bad URL":       {[]string{"--store", "postgres://user@host:port/db"}, "--store: not a URL such as"},
		"store bad setting":   {[]string{"--store", "postgres://host/db?sslmode=maybe"}, "sslmode is invalid"},
		"retention no unit":   {[]string{"--store", "sqlite:" + filepath.Join(dir, "db"), "--retention", "30"}, "30d or 8w"},
		"retention of zero":   {[]string{"--store", "sqlite:" + filepath.Join(dir, "db"), "--retention", "0d"}, "keep nothing"},
		"retention too long":  {[]string{"--store", "sqlite:" + filepath.Join(dir, "db"), "--retention", "999999w"}, "say forever"},
		"retention alone":     {[]string{"--retention", "30d"}, "name one with --store"},
		"size no unit":        {[]string{"--store", "sqlite:" + filepath.Join(dir, "db"), "--store-size", "50"}, "50GB"},
		"size alone":          {[]string{"--store-size", "50GB"}, "name one with --store"},
		"spool alone":         {[]string{"--store-spool", dir}, "name one with --store"},
		"spool with SQLite":   {[]string{"--store", "sqlite:" + filepath.Join(dir, "db"), "--store-spool", dir}, "only PostgreSQL"},
		"spool empty":         {[]string{"--store", "postgres://host/db", "--store-spool", ""}, "directory is missing"},
		"subscribers zero":    {[]string{"--filter", "--filter-subscribers", "0"}, "a number from 1 to 1000000"},
		"subscribers no word": {[]string{"--filter", "--filter-subscribers", "many"}, "a number from 1 to 1000000"},
		"subscribers alone":   {[]string{"--filter-subscribers", "10"}, "go with --filter"},
		"topics too many":     {[]string{"--filter", "--filter-topics", "1000001"}, "a number from 1 to 1000000"},
		"topics alone":        {[]string{"--lightpush", "--filter-topics", "10"}, "go with --filter"},
		"push rate zero":      {[]string{"--lightpush", "--lightpush-rate", "0"}, "a number above 0"},
		"push rate negative":  {[]string{"--lightpush", "--lightpush-rate", "-1"}, "a number above 0"},
		"push rate NaN":       {[]string{"--lightpush", "--lightpush-rate", "NaN"}, "a number above 0"},
		"push rate infinite":  {[]string{"--lightpush", "--lightpush-rate", "Inf"}, "10000 at most"},
		"push rate alone":     {[]string{"--filter", "--lightpush-rate", "5"}, "goes with --lightpush"},
		"filter with value":   {[]string{"--filter=yes"}, `invalid boolean value "yes"`},
		"network unknown":     {[]string{"--network", "waku"}, "want local, own, status or status-staging"},
		"network and cluster": {[]string{"--cluster", "16", "--network", "status"}, "contradict each other: that network is cluster 16"},
		"port not number":     {[]string{"--discv5", "--udp-port", "discv5"}, "a number from 0 to 65535"},
		"port too large":      {[]string{"--discv5", "--udp-port", "65536"}, "a number from 0 to 65535"},
		"port alone":          {[]string{"--udp-port", "9000"}, "begin it with --discv5"},
		"discv5 with value":   {[]string{"--discv5", "9000"}, `unexpected argument "9000"`},
		"bootnode address":    {[]string{"--bootnode", "/ip4/203.0.113.7/tcp/30303/p2p/16Uiu2"}, "addresses go to --connect"},
		"bootnode damaged":    {[]string{"--bootnode", "enr:-abc"}, "--bootnode: enr:-abc"},
		"bootnode elsewhere":  {[]string{"--cluster", "1", "--bootnode", waku.Status.Bootnodes[0]}, "is a node of cluster 16"},
		"tree no URL":         {[]string{"--dns-tree", "nodes.example.org"}, "enrtree://KEY@NAME"},
		"tree damaged":        {[]string{"--dns-tree", "enrtree://KEY@nodes.example.org"}, "--dns-tree: "},
		"resolver no address": {[]string{"--dns-tree", "enrtree://K@n", "--resolver", "https://dns"}, "such as 1.1.1.1 or [::1]:5353"},
		"external no address": {[]string{"--external-ip", "node.example.org"}, "want an IP address"},
		"external private":    {[]string{"--network", "own", "--external-ip", "10.0.0.7"}, "--external-ip: 10.0.0.7: strangers can't dial that"},
		"resolver alone":      {[]string{"--resolver", "127.0.0.1"}, "name one with --dns-tree"},
		"state empty":         {[]string{"--state", ""}, "the directory is missing"},
		"state is a file":     {[]string{"--state", file("state", "")}, "--state: "},
		"log level":           {[]string{"--log-level", "loud"}, "log-level"},
		"key damaged":         {[]string{"--nodekey-file", file("damaged", "not hex")}, "32 bytes in hex"},
		"key too short":       {[]string{"--nodekey-file", file("short", "abcd")}, "32 bytes in hex"},
		"key all zero":        {[]string{"--nodekey-file", file("zero", strings.Repeat("0", 64))}, "32 bytes in hex"},
		"key is a directory":  {[]string{"--nodekey-file", dir}, "--nodekey-file"},
		"key in no directory": {[]string{"--nodekey-file", filepath.Join(dir, "none", "key")}, "make it first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stderr := fails(t, c.args...)
			assert.Equal(t, 2, code)
			assert.Contains(t, stderr, c.want)
		})
	}
}

func TestTakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	takenUDP, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer takenUDP.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, args := range [][]string{
		{"--metrics", taken.Addr().String()},
		{"--listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)},
		{"--discv5", "--udp-port", fmt.Sprint(takenUDP.LocalAddr().(*net.UDPAddr).Port)},
	} {
		code, stderr := fails(t, args...)
		assert.NotZero(t, code)
		assert.Contains(t, stderr, "in use")
	}
}

// fails runs the program to its end and returns its exit code and the one line it
// says.
func fails(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var stdout, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &errs
	kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	require.Error(t, cmd.Run())
	assert.Empty(t, stdout.String())
	line := strings.TrimRight(errs.String(), "\n")
	assert.True(t, strings.HasPrefix(line, "servicenode: "), line)
	assert.NotContains(t, line, "\n", "one line")
	return cmd.ProcessState.ExitCode(), line
}

func TestHelp(t *testing.T) {
	out, err := exec.Command(program, "--help").Output()
	require.NoError(t, err)
	for _, name := range []string{"cluster", "shards", "listen", "ws-listen", "nodekey-file", "protected-shard",
		"connect", "max-conns", "max-conns-per-ip", "metrics", "store", "retention",
		"filter", "filter-subscribers", "filter-topics", "lightpush", "lightpush-rate",
		"network", "discv5", "udp-port", "bootnode", "dns-tree", "resolver", "peer-exchange", "state"} {
		assert.Contains(t, string(out), "--"+name+" ")
	}
}
