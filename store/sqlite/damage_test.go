package sqlite_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
)

// specimen is an archive's files, as they lie on the disk, and what they hold.
type specimen struct {
	name  string
	files map[string][]byte // by ending
	held  []store.Entry
	mark  map[sharding.Shard]time.Time
}

// specimens are archives to be damaged: one that was closed, and one whose process
// was killed, with part of what it holds in the log alone.
func specimens(t *testing.T) []*specimen {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path, sqlite.Config{})
	s := &specimen{name: "killed", mark: map[sharding.Shard]time.Time{}}
	s.put(t, a, 0, 6)
	_, err := sqlite.Checkpoint(a)
	require.NoError(t, err)
	s.put(t, a, 6, 9)
	s.copy(t, path)

	closed := &specimen{name: "closed", held: s.held, mark: s.mark}
	require.NoError(t, a.Close())
	closed.copy(t, path)
	require.Len(t, closed.files, 2, "one file, and the lock")
	return []*specimen{closed, s}
}

func (s *specimen) put(t *testing.T, a *sqlite.Archive, from, to int) {
	for i := from; i < to; i++ {
		batch := entries(40, origin.Add(time.Duration(i)*time.Hour), 200+i*200)
		require.NoError(t, a.Put(t.Context(), batch))
		for _, shard := range []sharding.Shard{shardA, shardB} {
			s.mark[shard] = origin.Add(time.Duration(i)*time.Hour + 40*time.Second)
			require.NoError(t, a.SetMark(t.Context(), shard, s.mark[shard]))
		}
		s.held = append(s.held, batch...)
	}
}

func (s *specimen) copy(t *testing.T, path string) {
	s.files = map[string][]byte{}
	for _, part := range []string{"", "-wal", ".lock"} {
		if data, err := os.ReadFile(path + part); err == nil {
			s.files[part] = data
		}
	}
}

// writeFiles makes the files of an archive, and returns its path.
func writeFiles(t *testing.T, files map[string][]byte) string {
	path := filepath.Join(t.TempDir(), "archive.db")
	for part, data := range files {
		if data != nil {
			require.NoError(t, os.WriteFile(path+part, data, 0o600))
		}
	}
	return path
}

// damage does something to a file, and says what.
func damage(r *rand.Rand, files map[string][]byte) string {
	part := ""
	if files["-wal"] != nil && r.IntN(2) == 0 {
		part = "-wal"
	}
	data := bytes.Clone(files[part])
	defer func() { files[part] = data }()
	switch r.IntN(8) {
	case 0:
		n := r.IntN(len(data))
		data = data[:n]
		return fmt.Sprintf("archive.db%s cut to %d", part, n)
	case 1:
		n, from := 512<<r.IntN(6), r.IntN(len(data))
		clear(data[from:min(from+n, len(data))])
		return fmt.Sprintf("archive.db%s: %d bytes cleared from %d", part, n, from)
	case 2:
		if part == "-wal" {
			data = nil
			return "archive.db-wal removed"
		}
		at := r.IntN(100) // the header
		data[at] ^= 1 << r.IntN(8)
		return fmt.Sprintf("a bit flipped in byte %d of the header", at)
	}
	at := r.IntN(len(data))
	data[at] ^= 1 << r.IntN(8)
	return fmt.Sprintf("archive.db%s: a bit flipped in byte %d", part, at)
}

func TestDamage(t *testing.T) { damageMany(t, damages) }

// damageMany damages archives at random. Whatever happens, they open, what they
// serve is what was put, and what they don't serve is reported: by the condition,
// or by a mark that says that it isn't there.
func damageMany(t *testing.T, rounds int) {
	outcomes := map[string]int{}
	for _, s := range specimens(t) {
		for seed := range uint64(rounds) {
			r := rand.New(rand.NewPCG(seed, 3))
			files := map[string][]byte{}
			for part, data := range s.files {
				files[part] = data
			}
			what := fmt.Sprintf("%s, seed %d: %s", s.name, seed, damage(r, files))
			ok := t.Run(fmt.Sprintf("%s-%d", s.name, seed), func(t *testing.T) {
				outcomes[s.open(t, files, what)]++
			})
			if !ok {
				t.Log(what)
			}
		}
	}
	t.Logf("outcomes: %v", outcomes)
	assert.NotZero(t, outcomes["damaged"])
}

// open opens what has been damaged.
func (s *specimen) open(t *testing.T, files map[string][]byte, what string) string {
	a := open(t, writeFiles(t, files), sqlite.Config{})
	found := served(t, a, s.held)
	known := map[string]bool{}
	lost, unmarked := 0, 0
	for _, e := range s.held {
		known[e.Hash.String()] = true
		m, kept := found[e.Hash]
		if kept {
			require.Equal(t, e.Message, m, what)
			continue
		}
		lost++
		mark, err := a.Mark(t.Context(), e.Shard)
		require.NoError(t, err)
		if !mark.Before(time.Unix(0, e.Message.Timestamp)) {
			unmarked++
		}
	}
	for hash := range found {
		require.True(t, known[hash.String()], "%s: served what was never put", what)
	}
	c := a.Condition()
	if c.State != store.Damaged {
		require.Zero(t, unmarked, "%s: %d lost, without a word about %d of them", what, lost, unmarked)
		if lost == 0 {
			return "harmless"
		}
		return "marked"
	}
	require.Error(t, c.Err)
	require.False(t, c.Since.IsZero())
	s.refill(t, a)
	return "damaged"
}

// refill puts what is missing again, as a node does that asks other stores.
func (s *specimen) refill(t *testing.T, a *sqlite.Archive) {
	require.NoError(t, a.Put(t.Context(), s.held))
	since := a.Condition().Since
	for shard := range s.mark {
		require.NoError(t, a.SetMark(t.Context(), shard, since.Add(time.Second)))
	}
	require.Equal(t, store.Ready, a.Condition().State)
	requireServed(t, a, s.held)
	stats, err := a.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(s.held), stats.Messages)
}

func TestSetAside(t *testing.T) {
	s := specimens(t)[0]
	path := filepath.Join(t.TempDir(), "archive.db")
	data := bytes.Clone(s.files[""])
	clear(data[len(data)/2:])
	require.NoError(t, os.WriteFile(path, data, 0o600))

	t.Log("a file of which nothing is known stays")
	_, err := sqlite.Open(t.Context(), path, sqlite.Config{})
	require.ErrorIs(t, err, sqlite.ErrNotArchive)
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, kept))

	t.Log("an archive is set aside")
	require.NoError(t, os.WriteFile(path+".lock", s.files[".lock"], 0o600))
	a := open(t, path, sqlite.Config{})
	c := a.Condition()
	assert.Equal(t, store.Damaged, c.State)
	aside, err := filepath.Glob(path + ".damaged-*")
	require.NoError(t, err)
	var names []string
	for _, name := range aside {
		if !strings.HasSuffix(name, "-shm") && !strings.HasSuffix(name, "-wal") {
			names = append(names, name)
		}
	}
	require.Equal(t, []string{path + ".damaged-20260302T120000Z"}, names)
	assert.ErrorContains(t, c.Err, names[0])

	t.Log("which is remembered")
	require.NoError(t, a.Close())
	a = open(t, path, sqlite.Config{})
	assert.Equal(t, store.Damaged, a.Condition().State)
	assert.ErrorContains(t, a.Condition().Err, names[0])
	s.refill(t, a)
	require.NoError(t, a.Close())
	a = open(t, path, sqlite.Config{})
	assert.Equal(t, store.Ready, a.Condition().State)
}

// One message that is damaged takes no others along, for longer than it takes to
// copy them.
func TestSalvage(t *testing.T) {
	s := specimens(t)[0]
	path := filepath.Join(t.TempDir(), "archive.db")
	data := bytes.Clone(s.files[""])
	hit := s.held[100].Message
	data[bytes.Index(data, hit.Payload)+50] ^= 1
	require.NoError(t, os.WriteFile(path, data, 0o600))
	require.NoError(t, os.WriteFile(path+".lock", s.files[".lock"], 0o600))
	a := open(t, path, sqlite.Config{})
	assert.Equal(t, store.Damaged, a.Condition().State)
	require.Eventually(t, func() bool {
		stats, err := a.Stats(t.Context())
		return err == nil && stats.Messages == int64(len(s.held)-1)
	}, 20*time.Second, time.Millisecond)
	requireServed(t, a, append(s.held[:100:100], s.held[101:]...))
	mark, err := a.Mark(t.Context(), shardA)
	require.NoError(t, err)
	assert.Zero(t, mark)
}

// Damage that is met while the archive is in use has the file replaced there and
// then.
func TestDamageInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path, sqlite.Config{})
	list := entries(300, origin, 500)
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.SetMark(t.Context(), shardA, origin.Add(time.Hour)))
	require.NoError(t, sqlite.Spoil(a, 7))

	_, err := walk(t.Context(), a, store.Query{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	c := a.Condition()
	require.Equal(t, store.Damaged, c.State)
	more := entries(20, origin.Add(time.Hour), 500)
	require.NoError(t, a.Put(t.Context(), more), "what is put waits for the new file")
	require.ErrorContains(t, a.Condition().Err, "set aside")
	require.Eventually(t, func() bool {
		stats, err := a.Stats(t.Context())
		return err == nil && stats.Messages == int64(len(list)-1+len(more))
	}, 20*time.Second, time.Millisecond)
	mark, err := a.Mark(t.Context(), shardA)
	require.NoError(t, err)
	assert.Zero(t, mark)
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.SetMark(t.Context(), shardA, c.Since))
	assert.Equal(t, store.Ready, a.Condition().State)
	requireServed(t, a, append(more, list...))
}
