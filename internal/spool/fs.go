package spool

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// FS is a directory of files, as a spool needs it. Tests put one there that
// fails as disks do.
type FS interface {
	// Lock makes the directory the caller's alone, until the result is closed.
	// ErrLocked if it is another's.
	Lock() (io.Closer, error)
	// List returns the names and sizes of the files.
	List() (map[string]int64, error)
	// Create makes a file that isn't there yet, and opens it for writing.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Remove removes a file.
	Remove(name string) error
	// Sync makes the creation of files durable.
	Sync() error
}

// File is a file of an [FS].
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate cuts the file to a size.
	Truncate(size int64) error
	// Sync makes what was written durable.
	Sync() error
}

// directory is a directory of the operating system.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

func (d directory) Lock() (io.Closer, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, &DiskError{"make the directory", err}
	}
	l := flock.New(d.path("lock"), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, &DiskError{"lock the directory", errors.Join(err, l.Close())}
	}
	if !ok {
		return nil, errors.Join(ErrLocked, l.Close())
	}
	return l, nil
}

func (d directory) List() (map[string]int64, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64, len(entries))
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) || e.IsDir() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sizes[e.Name()] = info.Size()
	}
	return sizes, nil
}

func (d directory) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d directory) Open(name string) (File, error) { return d.open(name, os.O_RDONLY) }

func (d directory) open(name string, flags int) (File, error) {
	f, err := os.OpenFile(d.path(name), flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d directory) Remove(name string) error {
	err := os.Remove(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

type osFile struct{ *os.File }
