package waku_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// badState is a store that does as its functions say.
type badState struct {
	load func(name string) ([]byte, error)
	save func(name string, value []byte) error
}

func (s badState) Load(_ context.Context, name string) ([]byte, error) { return s.load(name) }

func (s badState) Save(_ context.Context, name string, value []byte) error {
	return s.save(name, value)
}

// Whatever a state store does, the node starts, finds its peers and closes in time.
func TestBadStateStores(t *testing.T) {
	nothing := func(string) ([]byte, error) { return nil, nil }
	taken := func(string, []byte) error { return nil }
	for name, store := range map[string]func(hung <-chan struct{}) badState{
		"it hangs": func(hung <-chan struct{}) badState {
			return badState{
				func(string) ([]byte, error) { <-hung; return nil, nil },
				func(string, []byte) error { <-hung; return nil },
			}
		},
		"it hangs when it saves": func(hung <-chan struct{}) badState {
			return badState{nothing, func(string, []byte) error { <-hung; return nil }}
		},
		"it is slow": func(<-chan struct{}) badState {
			return badState{
				func(string) ([]byte, error) { time.Sleep(1900 * time.Millisecond); return nil, nil },
				func(string, []byte) error { time.Sleep(1900 * time.Millisecond); return nil },
			}
		},
		"it panics": func(<-chan struct{}) badState {
			return badState{
				func(string) ([]byte, error) { panic("load") },
				func(string, []byte) error { panic("save") },
			}
		},
		"it fails": func(<-chan struct{}) badState {
			return badState{
				func(string) ([]byte, error) { return nil, errors.New("disk on fire") },
				func(string, []byte) error { return errors.New("disk on fire") },
			}
		},
		"garbage": func(<-chan struct{}) badState {
			return badState{func(string) ([]byte, error) {
				b := make([]byte, rand.IntN(4000))
				for i := range b {
					b[i] = byte(rand.Uint32())
				}
				return b, nil
			}, taken}
		},
		"a megabyte": func(<-chan struct{}) badState {
			return badState{func(string) ([]byte, error) { return bytes.Repeat([]byte("peers\x01\xff"), 1<<17), nil }, taken}
		},
		"too much": func(<-chan struct{}) badState {
			return badState{func(string) ([]byte, error) { return make([]byte, 13<<20), nil }, taken}
		},
		"a great number": func(<-chan struct{}) badState {
			return badState{func(string) ([]byte, error) { return []byte("9223372036854775807"), nil }, taken}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				nodes := fleet(t, net, 5)
				list := tree(t, 1, records(nodes...)...)
				hung := make(chan struct{})
				defer func() { close(hung); time.Sleep(time.Second) }()
				began := time.Now()
				n := start(t, waku.WithHost(apart(net)), waku.WithBootnodes(records(nodes...)...), waku.WithoutDiscv5(),
					waku.WithDNSTrees(list.URL), waku.WithResolvers(resolver(func(string) ([]string, error) { return nil, errors.New("none") })),
					waku.WithStateStore(store(hung)))
				require.Less(t, time.Since(began), 5*time.Second)
				join(t, n, waku.Community{Shard: town})
				time.Sleep(20 * time.Second) // virtual
				require.Len(t, n.Peers(), 5)
				began = time.Now()
				require.NoError(t, n.Close())
				require.Less(t, time.Since(began), 5*time.Second)
			})
		})
	}
}

// What a store didn't take at first it is given again.
func TestStateIsSavedInTheEnd(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		kept := map[string][]byte{}
		broken := true
		state := badState{
			func(string) ([]byte, error) { return nil, nil },
			func(name string, value []byte) error {
				mu.Lock()
				defer mu.Unlock()
				if broken {
					return errors.New("no space left on device")
				}
				kept[name] = value
				return nil
			},
		}
		n := start(t, waku.WithHost(p2ptest.Hosts(t, 1)[0]), waku.WithStateStore(state))
		join(t, n, waku.Community{Shard: town})
		time.Sleep(time.Minute) // virtual
		mu.Lock()
		broken = false
		mu.Unlock()
		r, err := enr.Parse(n.ENR())
		require.NoError(t, err)
		require.NoError(t, n.Close())
		require.Equal(t, strconv.FormatUint(r.Seq(), 10), string(kept["record"]))
		require.NotEmpty(t, kept["peers"])
	})
}

// Two nodes that were given one directory both go on, and what is there can be read.
func TestStateDirOfTwo(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	var highest [2]uint64
	for i := range 2 {
		all.Go(func() {
			for range 5 {
				n, err := waku.New(t.Context(), oneSocket(), waku.WithStateStore(waku.StateDir(dir)))
				if err != nil {
					t.Error(err)
					return
				}
				for range 5 {
					m := join(t, n, waku.Community{Shard: town})
					_ = m.Leave()
				}
				r, err := enr.Parse(n.ENR())
				if err != nil || n.Close() != nil {
					t.Error(err)
					return
				}
				highest[i] = r.Seq()
			}
		})
	}
	all.Wait()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, names, 2, "peers and record, and nothing left over: %v", names)
	kept, err := os.ReadFile(filepath.Join(dir, "record"))
	require.NoError(t, err)
	seq, err := strconv.ParseUint(string(kept), 10, 64)
	require.NoError(t, err)
	require.NotZero(t, seq)
	// A directory in the place of a file, and one that can't be made.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "odd", "record"), 0o700))
	for _, at := range []string{filepath.Join(dir, "odd"), filepath.Join(dir, "record", "below")} {
		start(t, oneSocket(), waku.WithStateStore(waku.StateDir(at)))
	}
}

// The record's number grows from run to run, whatever the clock does, and however often
// it changed meanwhile.
func TestRecordNumberNeverGoesBack(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		state := newMemoryState()
		host := p2ptest.Hosts(t, 1)[0]
		last := uint64(0)
		seen := map[uint64]string{}
		runs := 20
		if testing.Short() {
			runs = 5
		}
		for run := range runs {
			offset := time.Duration(rand.Int64N(int64(20000*time.Hour))) - 10000*time.Hour
			n, err := waku.New(t.Context(), waku.WithHost(host), waku.WithStateStore(state),
				waku.WithClock(func() time.Time { return time.Now().Add(offset) }))
			require.NoError(t, err)
			for i := range rand.IntN(200) {
				text := n.ENR()
				r, err := enr.Parse(text)
				require.NoError(t, err)
				require.GreaterOrEqual(t, r.Seq(), last, fmt.Sprint(run, i))
				if other, ok := seen[r.Seq()]; ok {
					require.Equal(t, other, text, "two records of one number")
				}
				seen[r.Seq()], last = text, r.Seq()
				m := join(t, n, waku.Community{Shard: town})
				if rand.IntN(2) == 0 {
					require.NoError(t, m.Leave())
				}
			}
			require.NoError(t, n.Close())
			last++ // the next run's is greater
		}
	})
}
