package sqlite_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sync"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// disk knows what would be on a disk if the power failed: what was synced, and of
// what was not, any part.
type disk struct {
	mu      sync.Mutex
	durable map[string]*diskFile // the directory as it was synced
	now     map[string]*diskFile // and as it is
	entries []entryChange        // from the one to the other

	// fails is called in the midst of every operation.
	fails func()
}

// diskFile is a file: what was synced of it, and what has happened since.
type diskFile struct {
	synced  []byte
	pending []change
}

// change is a write, or if data is nil, a cut.
type change struct {
	offset int64
	data   []byte
}

// entryChange is a file that has come, or if file is nil, gone.
type entryChange struct {
	path string
	file *diskFile
}

func newDisk(fails func()) *disk {
	return &disk{durable: map[string]*diskFile{}, now: map[string]*diskFile{}, fails: fails}
}

// open returns a file and whether it is a new one.
func (d *disk) open(path string) (f *diskFile, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.now[path]; f != nil {
		return f, false
	}
	f = new(diskFile)
	d.entry(path, f)
	return f, true
}

func (d *disk) entry(path string, f *diskFile) {
	if f == nil {
		delete(d.now, path)
	} else {
		d.now[path] = f
	}
	d.entries = append(d.entries, entryChange{path, f})
}

func (d *disk) syncEntries() {
	d.durable = apply(d.durable, d.entries)
	d.entries = nil
}

func apply(entries map[string]*diskFile, changes []entryChange) map[string]*diskFile {
	out := map[string]*diskFile{}
	for path, f := range entries {
		out[path] = f
	}
	for _, c := range changes {
		if out[c.path] = c.file; c.file == nil {
			delete(out, c.path)
		}
	}
	return out
}

func (d *disk) remove(path string, synced bool, do func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now[path] != nil {
		d.entry(path, nil)
	}
	d.fails()
	rc := do()
	if synced && rc == 0 {
		d.syncEntries()
	}
	return rc
}

func (d *disk) write(f *diskFile, offset int64, data []byte, do func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.pending = append(f.pending, change{offset, bytes.Clone(data)})
	d.fails()
	return do()
}

func (d *disk) sync(f *diskFile, directory bool, do func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails()
	rc := do()
	if rc != 0 {
		return rc
	}
	for _, c := range f.pending {
		f.synced = c.on(f.synced, func() bool { return true })
	}
	f.pending = nil
	if directory {
		d.syncEntries()
	}
	return rc
}

// after is what is on the disk after a power failure now: of what has not been
// synced, each sector or not, with a probability, and of the directory's changes
// the first few.
func (d *disk) after(r *rand.Rand, probability float64) map[string][]byte {
	files := map[string][]byte{}
	for path, f := range apply(d.durable, d.entries[:r.IntN(len(d.entries)+1)]) {
		data := slices.Clone(f.synced)
		for _, c := range f.pending {
			data = c.on(data, func() bool { return r.Float64() < probability })
		}
		files[path] = data
	}
	return files
}

// on makes a change, as far as there is luck.
func (c change) on(file []byte, luck func() bool) []byte {
	size := int(c.offset)
	if c.data == nil {
		if luck() {
			file = extended(file, size)[:size]
		}
		return file
	}
	for from := 0; from < len(c.data); {
		n := min(sector-(size+from)%sector, len(c.data)-from)
		if luck() {
			file = extended(file, size+from+n)
			copy(file[size+from:], c.data[from:from+n])
		}
		from += n
	}
	return file
}

func extended(file []byte, size int) []byte {
	if len(file) < size {
		file = append(file, make([]byte, size-len(file))...)
	}
	return file
}
