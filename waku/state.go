package waku

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// StateStore keeps what a node should still know after a restart: good peers, the
// number of its record, lists of nodes. Names are a few plain words without spaces,
// values at most twelve mebibytes, and mostly some kibibytes. It is a cache: nothing is lost for good with it. Calls
// may come from several goroutines.
type StateStore interface {
	// Load returns what was saved under a name last; nil if nothing was.
	Load(ctx context.Context, name string) ([]byte, error)
	// Save replaces what is kept under a name, wholly or not at all.
	Save(ctx context.Context, name string, value []byte) error
}

// StateDir keeps the state in files of a directory, which is made when it is needed.
// Nodes don't share one.
func StateDir(path string) StateStore { return stateDir(path) }

type stateDir string

// Load implements StateStore.
func (d stateDir) Load(_ context.Context, name string) ([]byte, error) {
	value, err := os.ReadFile(filepath.Join(string(d), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return value, err
}

// Save implements StateStore.
func (d stateDir) Save(_ context.Context, name string, value []byte) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(d), name+".*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(value)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(string(d), name))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// The names of what is kept.
const (
	statePeers  = "peers"
	stateRecord = "record"
	stateTrees  = "tree"
)

const (
	// maxState is the longest value in bytes.
	maxState = 12 << 20
	// stateTimeout bounds a call of the store.
	stateTimeout = 2 * time.Second
)

// stateKeeper saves in the background, one value at a time, the latest of each name.
type stateKeeper struct {
	store   StateStore // nil: nothing is kept
	failed  func(name string, err error)
	wake    chan struct{}
	mu      sync.Mutex
	pending map[string][]byte
	saved   map[string]string
}

func newStateKeeper(store StateStore, failed func(string, error)) *stateKeeper {
	return &stateKeeper{
		store: store, failed: failed, wake: make(chan struct{}, 1),
		pending: map[string][]byte{}, saved: map[string]string{},
	}
}

// load returns what an earlier run has kept; nil if nothing is known.
func (k *stateKeeper) load(ctx context.Context, name string) (value []byte) {
	if k.store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	err := k.careful(func() (err error) { value, err = k.store.Load(ctx, name); return err })
	if err == nil && len(value) > maxState {
		err = fmt.Errorf("%d bytes, expected %d at most", len(value), maxState)
	}
	if err != nil {
		k.failed(name, err)
		return nil
	}
	return value
}

// save keeps a value soon. It doesn't wait.
func (k *stateKeeper) save(name string, value []byte) {
	if k.store == nil || len(value) > maxState {
		return
	}
	k.mu.Lock()
	k.pending[name] = value
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *stateKeeper) run(ctx context.Context) {
	for {
		select {
		case <-k.wake:
			k.flush(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// flush saves what waits.
func (k *stateKeeper) flush(ctx context.Context) {
	for {
		name, value := k.next()
		if name == "" {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, stateTimeout)
		if err := k.careful(func() error { return k.store.Save(ctx, name, value) }); err != nil {
			k.failed(name, err)
		} else {
			k.mu.Lock()
			k.saved[name] = string(value)
			k.mu.Unlock()
		}
		cancel()
	}
}

func (k *stateKeeper) next() (name string, value []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, value := range k.pending {
		delete(k.pending, name)
		if have, ok := k.saved[name]; !ok || have != string(value) {
			return name, value
		}
	}
	return "", nil
}

// careful survives a store that panics.
func (k *stateKeeper) careful(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return f()
}
