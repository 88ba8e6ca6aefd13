package spool_test

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/status-im/shoal/internal/spool"
)

func errorsAs[T error](err error, target *T) bool { return errors.As(err, target) }

var errCrash = errors.New("the machine is gone")

// disk is a file layer that knows what is durable, and fails on demand. What it
// keeps of the rest after a crash is as arbitrary as what disks do: any sectors
// of any write, any length in between, any of the directory's changes.
type disk struct {
	mu     sync.Mutex
	files  map[string]*inode // the directory, as programs see it
	synced map[string]*inode // the directory, as the disk has it

	limit   int64           // bytes that fit. 0: any
	fail    func(op) error  // asked before every operation
	part    func(n int) int // how much of a failing write happens
	before  func(op)        // called before every operation on a file, by whoever does it
	locked  bool
	crashed bool
	ops     int
}

type op struct {
	name string // create, write, truncate, sync, syncdir, remove, read, open
	file string
}

type inode struct {
	data   []byte
	synced []byte
	writes []write // since the last sync
}

type write struct {
	at   int64
	data []byte // nil: cut to at
}

func newDisk() *disk {
	return &disk{files: make(map[string]*inode), synced: make(map[string]*inode)}
}

func (d *disk) check(o op) error {
	if d.crashed {
		return errCrash
	}
	d.ops++
	if d.fail != nil {
		return d.fail(o)
	}
	return nil
}

func (d *disk) used() (n int64) {
	for _, f := range d.files {
		n += int64(len(f.data))
	}
	return n
}

type unlocker func()

func (u unlocker) Close() error { u(); return nil }

func (d *disk) Lock() (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, spool.ErrLocked
	}
	d.locked = true
	return unlocker(func() { d.mu.Lock(); d.locked = false; d.mu.Unlock() }), nil
}

func (d *disk) List() (map[string]int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sizes := make(map[string]int64)
	for name, f := range d.files {
		sizes[name] = int64(len(f.data))
	}
	return sizes, d.check(op{"list", ""})
}

func (d *disk) Create(name string) (spool.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(op{"create", name}); err != nil {
		return nil, err
	}
	if d.files[name] != nil {
		return nil, iofs.ErrExist
	}
	d.files[name] = &inode{}
	return &handle{d, name, d.files[name]}, nil
}

func (d *disk) Open(name string) (spool.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(op{"open", name}); err != nil {
		return nil, err
	}
	if d.files[name] == nil {
		return nil, iofs.ErrNotExist
	}
	return &handle{d, name, d.files[name]}, nil
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(op{"remove", name}); err != nil {
		return err
	}
	delete(d.files, name)
	return nil
}

func (d *disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(op{"syncdir", ""}); err != nil {
		return err
	}
	d.synced = maps.Clone(d.files)
	return nil
}

func (d *disk) hook(o op) {
	if d.before != nil {
		d.before(o)
	}
}

type handle struct {
	d    *disk
	name string
	*inode
}

func (h *handle) Close() error { return nil }

func (h *handle) ReadAt(b []byte, at int64) (int, error) {
	h.d.hook(op{"read", h.name})
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.check(op{"read", h.name}); err != nil {
		return 0, err
	}
	if at >= int64(len(h.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

var errNoSpace = fmt.Errorf("write: %w", syscall.ENOSPC)

func (h *handle) WriteAt(b []byte, at int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	n := len(b)
	err := h.d.check(op{"write", h.name})
	if err == nil && h.d.limit > 0 {
		if room := h.d.limit - h.d.used(); int64(n) > room {
			n, err = int(max(0, room)), errNoSpace
		}
	} else if err != nil {
		n = 0
		if h.d.part != nil {
			n = h.d.part(len(b))
		}
	}
	if n > 0 {
		h.data = apply(h.data, write{at, b[:n]})
		h.writes = append(h.writes, write{at, slices.Clone(b[:n])})
	}
	return n, err
}

func (h *handle) Truncate(size int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.check(op{"truncate", h.name}); err != nil {
		return err
	}
	h.data = apply(h.data, write{size, nil})
	h.writes = append(h.writes, write{size, nil})
	return nil
}

func (h *handle) Sync() error {
	h.d.hook(op{"sync", h.name})
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.check(op{"sync", h.name}); err != nil {
		// What didn't reach the disk is forgotten: the next sync succeeds and
		// knows nothing of it.
		h.writes = nil
		return err
	}
	for _, w := range h.writes {
		h.synced = apply(h.synced, w)
	}
	h.writes = nil
	return nil
}

func apply(data []byte, w write) []byte {
	if w.data == nil {
		data = append(data, make([]byte, max(0, w.at-int64(len(data))))...)
		return data[:w.at:w.at]
	}
	if end := w.at + int64(len(w.data)); end > int64(len(data)) {
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[w.at:], w.data)
	return data
}

// crash returns the disk after a loss of power: what was synced, and any of the
// rest.
func (d *disk) crash(r *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
	after := newDisk()
	names := make(map[string]bool)
	for n := range d.files {
		names[n] = true
	}
	for n := range d.synced {
		names[n] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, is := d.synced[name], d.files[name]
		f := was
		if was != is && r.IntN(2) == 0 {
			f = is
		}
		if f == nil {
			continue
		}
		data := slices.Clone(f.synced)
		for _, w := range f.writes {
			if w.data == nil {
				if r.IntN(2) == 0 {
					data = apply(data, w)
				}
				continue
			}
			const sector = 64
			for i := 0; i < len(w.data); i += sector {
				if r.IntN(2) == 0 {
					data = apply(data, write{w.at + int64(i), w.data[i:min(i+sector, len(w.data))]})
				}
			}
		}
		node := &inode{data: data, synced: slices.Clone(data)}
		after.files[name], after.synced[name] = node, node
	}
	return after
}

// kill returns the disk after the end of the process: nothing is lost.
func (d *disk) kill() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
	after := newDisk()
	for name, f := range d.files {
		after.files[name] = &inode{slices.Clone(f.data), slices.Clone(f.synced), slices.Clone(f.writes)}
	}
	for name, f := range d.synced {
		if d.files[name] == f {
			after.synced[name] = after.files[name]
		} else {
			after.synced[name] = &inode{slices.Clone(f.data), slices.Clone(f.synced), slices.Clone(f.writes)}
		}
	}
	return after
}
