package waku

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// StateStore keeps what a node should still know after a restart: good peers, the
// number of its record, lists of nodes. Names are a few plain words without spaces,
// values at most twelve mebibytes, and mostly some kibibytes. But for messages that wait
// to be sent it is a cache: nothing is lost for good with it. Calls may come from several
// goroutines.
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
	f, err := os.Open(filepath.Join(string(d), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxState+1)) // whatever else has become of it
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

	stateComplete = "complete"
)

const (
	// maxState is the longest value in bytes.
	maxState = 12 << 20
	// stateTimeout bounds a call of the store.
	stateTimeout = 2 * time.Second
	// stateGrace is what it has to notice that.
	stateGrace = 100 * time.Millisecond
)

// stateKeeper saves in the background, one value at a time, the latest of each name. A
// store that doesn't come back is left alone until it does.
type stateKeeper struct {
	store   StateStore // nil: nothing is kept
	failed  func(name string, err error)
	wake    chan struct{}
	turn    chan struct{} // held during a call
	hangs   atomic.Bool   // the call that holds it took too long
	mu      sync.Mutex
	pending map[string][]byte
	saved   map[string]string
}

func newStateKeeper(store StateStore, failed func(string, error)) *stateKeeper {
	return &stateKeeper{
		store: store, failed: failed, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		pending: map[string][]byte{}, saved: map[string]string{},
	}
}

// load returns what an earlier run has kept; nil if nothing is known.
func (k *stateKeeper) load(ctx context.Context, name string) []byte {
	if k.store == nil {
		return nil
	}
	value, err := k.call(ctx, func(ctx context.Context) ([]byte, error) { return k.store.Load(ctx, name) })
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

// saveNow keeps a value before it returns, unless the store fails.
func (k *stateKeeper) saveNow(name string, value []byte) {
	k.save(name, value)
	if k.store != nil {
		k.flush(context.Background())
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

// flush saves what waits, and doesn't begin with more after ctx has ended. What it has
// begun it ends: the node may be closing. What failed waits for the next time.
func (k *stateKeeper) flush(ctx context.Context) {
	again := map[string][]byte{}
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		maps.Copy(again, k.pending) // newer
		k.pending = again
	}()
	for ctx.Err() == nil {
		name, value := k.next()
		if name == "" {
			return
		}
		_, err := k.call(context.WithoutCancel(ctx), func(ctx context.Context) ([]byte, error) { return nil, k.store.Save(ctx, name, value) })
		if err != nil {
			k.failed(name, err)
			again[name] = value
			continue
		}
		k.mu.Lock()
		k.saved[name] = string(value)
		k.mu.Unlock()
	}
}

// end saves what waits, and doesn't take long.
func (k *stateKeeper) end() {
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	k.flush(ctx)
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

var errStateHangs = errors.New("the store hasn't come back from an earlier call")

// call calls the store, one call after the other, and survives one that panics or
// doesn't return.
func (k *stateKeeper) call(ctx context.Context, f func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	if k.hangs.Load() {
		return nil, errStateHangs
	}
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	type result struct {
		value []byte
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if v := recover(); v != nil {
				r.err = fmt.Errorf("panic: %v", v)
			}
			done <- r
			k.hangs.Store(false)
			<-k.turn
		}()
		r.value, r.err = f(ctx)
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(stateGrace): // it may be about to notice
	}
	k.hangs.Store(true)
	select {
	case r := <-done: // just now
		k.hangs.Store(false)
		return r.value, r.err
	default:
		return nil, context.Cause(ctx)
	}
}
