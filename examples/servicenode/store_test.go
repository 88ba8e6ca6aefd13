package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

var shard = sharding.Shard{Cluster: 16, Index: 128}

const topic = "/test/1/lobby/plain"

func newKey(t *testing.T) *dosguard.PrivateKey {
	key, err := dosguard.GenerateKey()
	require.NoError(t, err)
	return key
}

// keeper starts a node with a store, for the community with the key.
func keeper(t *testing.T, key *dosguard.PrivateKey, args ...string) *running {
	return start(t, append([]string{"--shards", "128", "--protected-shard", "128=" + key.PublicKey().Hex(), "--ws-listen", ""}, args...)...)
}

// member joins with a node of its own, connected with others.
func member(t *testing.T, key *dosguard.PrivateKey, nodes ...*running) (*waku.Node, *waku.Membership) {
	t.Helper()
	var addrs []string
	for _, r := range nodes {
		addrs = append(addrs, r.line.Addresses[0])
	}
	node, err := waku.New(t.Context(), waku.WithStaticPeers(addrs...))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, node.Close()) })
	m, err := node.Join(t.Context(), waku.Community{Shard: shard, PublicKey: key.PublicKey()}, waku.SignWith(key))
	require.NoError(t, err)
	return node, m
}

// speak sends messages to so many peers.
func speak(t *testing.T, key *dosguard.PrivateKey, count int, nodes ...*running) (said []string) {
	t.Helper()
	node, m := member(t, key, nodes...)
	require.Eventually(t, func() bool { return node.Health().Shards[0].Mesh == len(nodes) }, 2*time.Minute, 20*time.Millisecond)
	for i := range count {
		said = append(said, fmt.Sprintf("%d of %d at %v", i, count, time.Now()))
		_, err := m.Send(t.Context(), topic, []byte(said[i]))
		require.NoError(t, err)
	}
	return said
}

// expectHistory reads back from a node until it has as many messages as wanted.
func expectHistory(t *testing.T, key *dosguard.PrivateKey, r *running, want []string) {
	t.Helper()
	_, m := member(t, key, r)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var got []string
	for len(got) < len(want) && ctx.Err() == nil {
		got = nil
		for env, err := range m.History(ctx, waku.HistoryQuery{ContentTopics: []string{topic}}) {
			require.NoError(t, err, "%s", r.stderr)
			got = append(got, string(env.Message.Payload))
		}
	}
	require.Equal(t, want, got)
}

func kill9(t *testing.T, r *running) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Kill())
	io.Copy(io.Discard, r.stdout)
	r.cmd.Wait()
}

func TestStoreInSQLiteOutlivesKill(t *testing.T) {
	dir := t.TempDir()
	key := newKey(t)
	args := []string{"--store", "sqlite:" + filepath.Join(dir, "store.db"), "--retention", "1w", "--store-size", "100MB",
		"--nodekey-file", filepath.Join(dir, "node.key")}
	r := keeper(t, key, args...)
	assert.Equal(t, "sqlite", r.line.Store)
	said := speak(t, key, 130, r)
	expectHistory(t, key, r, said)

	code, stderr := fails(t, "--store", args[1])
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "a file of its own")

	kill9(t, r)
	r = keeper(t, key, args...)
	expectHistory(t, key, r, said)
	said = append(said, speak(t, key, 3, r)...)
	expectHistory(t, key, r, said)
	r.end(t)
	assert.NoFileExists(t, filepath.Join(dir, "store.db-wal"), "closed")
}

// Two nodes share a database; what one was told the other one knows. The database
// goes away and both start nevertheless. What they are told meanwhile outlives
// their own end.
func TestStoreInPostgreSQLOutlivesItsAbsence(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Config{NoSync: true})
	url := strings.Replace(cluster.Database(t), "postgres@", "postgres:hunter2@", 1)
	require.Contains(t, url, ":hunter2@")
	dir := t.TempDir()
	key := newKey(t)
	node := func(name string, more ...string) *running {
		r := keeper(t, key, append([]string{"--store", url, "--nodekey-file", filepath.Join(dir, name)}, more...)...)
		assert.Equal(t, "postgres", r.line.Store)
		return r
	}
	a := node("a")
	b := node("b", "--store-spool", filepath.Join(dir, "waiting"))
	assert.DirExists(t, filepath.Join(dir, "a.spool"))
	assert.DirExists(t, filepath.Join(dir, "waiting"))
	said := speak(t, key, 50, a)
	expectHistory(t, key, b, said)
	a.end(t)
	b.end(t)

	code, stderr := fails(t, "--store", strings.Replace(url, "postgres:hunter2@", "nobody:hunter2@", 1), "--store-spool", filepath.Join(dir, "other"))
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, `role "nobody" does not exist`)
	assert.NotContains(t, stderr, "hunter2")

	require.NoError(t, cluster.Stop(pgtest.Fast))
	a = node("a")
	c, third := node("c"), filepath.Join(dir, "c.spool")
	assert.DirExists(t, third)
	said = append(said, speak(t, key, 20, a, c)...)
	require.Eventually(t, func() bool { return spooled(t, third) }, 2*time.Minute, 20*time.Millisecond)
	kill9(t, c)
	assert.Contains(t, c.stderr.String(), "the database is away")
	require.NoError(t, cluster.Restart())
	expectHistory(t, key, a, said)
	c = node("c")
	expectHistory(t, key, c, said)
	for _, r := range []*running{a, c} {
		r.end(t)
		assert.NotContains(t, r.stderr.String(), "hunter2")
	}
	assert.NotContains(t, b.stderr.String(), "hunter2")
}

// spooled tells whether there is something in a spool.
func spooled(t *testing.T, dir string) bool {
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	var bytes int64
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			bytes += info.Size()
		}
	}
	return bytes > 1000
}

func TestStoreFlags(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "store.db")
	t.Chdir(dir)
	for text, want := range map[string]storeSettings{
		"sqlite:" + file:                             {kind: "sqlite", place: file},
		"sqlite://" + file:                           {kind: "sqlite", place: file},
		"sqlite:store.db":                            {kind: "sqlite", place: "store.db"},
		"sqlite://s.db":                              {kind: "sqlite", place: "s.db"},
		"postgres:///x":                              {kind: "postgres", place: "postgres:///x"},
		"postgresql://db/shoal?sslmode=require":      {kind: "postgres", place: "postgresql://db/shoal?sslmode=require"},
		"postgres://u:p%23w@[::1]:5432,db2:5433/x":   {},
		"postgres://u@db/x?password=with@in&user=me": {kind: "postgres", place: "postgres://u@db/x?password=with@in&user=me"},
	} {
		var s storeSettings
		err := s.parseStore(text)
		if want == (storeSettings{}) {
			assert.Error(t, err, text)
			continue
		}
		require.NoError(t, err, text)
		assert.Equal(t, want, s)
	}
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "12h": 12 * time.Hour, "30d": 720 * time.Hour, "8w": 8 * 168 * time.Hour, "forever": 0,
	} {
		got, err := parseAge(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for text, want := range map[string]int64{"500MB": 500e6, "50GB": 50e9, "1TB": 1e12, "9223372TB": 9223372e12} {
		got, err := parseBytes(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "d", "30", "30 d", "3.5d", "-1d", "0", "0d", "30D", "30y", "1d12h", "12hh", "100000000000d",
		fmt.Sprint(math.MaxInt64, "m"), "Forever"} {
		_, err := parseAge(text)
		assert.Error(t, err, text)
	}
	for _, text := range []string{"", "GB", "50", "50 GB", "0GB", "-1GB", "1.5GB", "50gb", "50GiB", "50G", "9223373TB"} {
		_, err := parseBytes(text)
		assert.Error(t, err, text)
	}
}

func TestPasswordsArentPrinted(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, args := range [][]string{
		{"--store", "postgres://shoal:hunter2@db:port/shoal"},
		{"--store", "postgres://shoal:hunter2@db:99999/shoal"},
		{"--store", "postgres://shoal:hun%ter2@db/shoal"},
		{"--store", "postgres://shoal:/hunter2@db/shoal"},
		{"--store", "postgres://shoal:1/hunter2@db/shoal"},
		{"--store", "postgres://shoal:1#hunter2@db/shoal"},
		{"--store", "postgres://shoal:1?hunter2@db/shoal"},
		{"--store", "postgres://shoal:hunter2 x@db/shoal"},
		{"--store", "postgres://shoal:hunter2@db/shoal?sslmode=maybe"},
		{"--store", "postgres://db/shoal?user=shoal&password=hunter2&sslmode=maybe"},
		{"--store=postgres://shoal:hunter2@db/shoal", "--retention", "0"},
		{"--store", "host=db user=shoal password=hunter2"},
		{"--store", "pg://shoal:hunter2@db/shoal"},
		{"--store-spool", "postgres://shoal:hunter2@db/shoal"},
		{"--stores", "postgres://shoal:hunter2@db/shoal"},
		{"--connect", "postgres://shoal:hunter2@db/shoal"},
		{"--retention", "postgres://shoal:hunter2 x@db/shoal"},
		{"postgres://shoal:hunter2@db/shoal"},
	} {
		code, stderr := fails(t, args...)
		assert.Equal(t, 2, code, stderr)
		assert.NotContains(t, stderr, "ter2", args)
	}
}
