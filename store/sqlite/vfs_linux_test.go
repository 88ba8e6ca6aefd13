package sqlite_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	codes "modernc.org/sqlite/lib"
)

// vfsName names SQLite's own file system with a record of what is written: the
// functions below stand before its own, which do the work.
const vfsName = "watched"

// watched is the file system. Addresses are of memory of SQLite's, which Go knows
// nothing of.
var watched struct {
	once    sync.Once
	err     error
	base    uintptr // of the file system that does the work
	baseVFS codes.Tsqlite3_vfs

	mu    sync.Mutex
	kinds map[uintptr]*fileKind // files with locks, without, …: by their methods' address

	disks sync.Map // by directory
	open  sync.Map // *openFile, by SQLite's address
}

// fileKind is how files of a kind are worked on.
type fileKind struct {
	base codes.Tsqlite3_io_methods
	ours uintptr
}

// watch has a disk told of what is written in a directory, through a file system
// that is registered when it is first needed.
func watch(dir string, d *disk) (forget func(), err error) {
	w := &watched
	w.once.Do(func() {
		tls := libc.NewTLS()
		defer tls.Close()
		var name uintptr
		if name, w.err = libc.CString(vfsName); w.err != nil {
			return
		}
		w.kinds = map[uintptr]*fileKind{}
		w.base = codes.Xsqlite3_vfs_find(tls, 0)
		w.baseVFS = *at[codes.Tsqlite3_vfs](w.base)
		vfs := w.baseVFS
		vfs.FpNext, vfs.FzName = 0, name
		vfs.FxOpen, vfs.FxDelete = code(vfsOpen), code(vfsDelete)
		if rc := codes.Xsqlite3_vfs_register(tls, given(tls, vfs), 0); rc != codes.SQLITE_OK {
			w.err = fmt.Errorf("registering a file system: %d", rc)
		}
	})
	w.disks.Store(dir, d)
	return func() { w.disks.Delete(dir) }, w.err
}

// at is what an address of SQLite's points to.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// given is the address of a copy that SQLite may have for ever.
func given[T any](tls *libc.TLS, v T) uintptr {
	p := libc.Xcalloc(tls, 1, types.Size_t(unsafe.Sizeof(v)))
	*at[T](p) = v
	return p
}

// code is the address by which SQLite calls a function, and function the one that
// has an address.
func code[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

func function[F any](address uintptr) F { return *(*F)(unsafe.Pointer(&address)) }

type (
	openFunc     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	deleteFunc   = func(tls *libc.TLS, vfs, name uintptr, dirSync int32) int32
	writeFunc    = func(tls *libc.TLS, file, data uintptr, n int32, offset int64) int32
	truncateFunc = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc     = func(tls *libc.TLS, file uintptr, flags int32) int32
	closeFunc    = func(tls *libc.TLS, file uintptr) int32
)

// openFile is a file that SQLite has open.
type openFile struct {
	disk *disk
	file *diskFile
	kind *fileKind
	// fresh says that opening made the file: syncing it syncs its directory, too.
	fresh bool
}

func vfsOpen(tls *libc.TLS, _, name, file uintptr, flags int32, out uintptr) int32 {
	w := &watched
	rc := function[openFunc](w.baseVFS.FxOpen)(tls, w.base, name, file, flags, out)
	if rc != codes.SQLITE_OK || name == 0 {
		return rc
	}
	path := libc.GoString(name)
	d, ok := w.disks.Load(filepath.Dir(path))
	if !ok {
		return rc
	}
	f := &openFile{disk: d.(*disk)}
	f.file, f.fresh = f.disk.open(path)
	f.fresh = f.fresh && flags&codes.SQLITE_OPEN_MAIN_DB == 0
	methods := &at[codes.Tsqlite3_file](file).FpMethods
	f.kind = kind(tls, *methods)
	*methods = f.kind.ours
	w.open.Store(file, f)
	return rc
}

// kind finds or makes the kind of files that have some methods.
func kind(tls *libc.TLS, methods uintptr) *fileKind {
	w := &watched
	w.mu.Lock()
	defer w.mu.Unlock()
	if k := w.kinds[methods]; k != nil {
		return k
	}
	k := &fileKind{base: *at[codes.Tsqlite3_io_methods](methods)}
	ours := k.base
	ours.FxWrite, ours.FxTruncate = code(vfsWrite), code(vfsTruncate)
	ours.FxSync, ours.FxClose = code(vfsSync), code(vfsClose)
	k.ours = given(tls, ours)
	w.kinds[methods] = k
	return k
}

func opened(file uintptr) *openFile {
	f, _ := watched.open.Load(file)
	return f.(*openFile)
}

func vfsDelete(tls *libc.TLS, _, name uintptr, dirSync int32) int32 {
	path := libc.GoString(name)
	do := func() int32 { return function[deleteFunc](watched.baseVFS.FxDelete)(tls, watched.base, name, dirSync) }
	if d, ok := watched.disks.Load(filepath.Dir(path)); ok {
		return d.(*disk).remove(path, dirSync != 0, do)
	}
	return do()
}

func vfsWrite(tls *libc.TLS, file, data uintptr, n int32, offset int64) int32 {
	f := opened(file)
	return f.disk.write(f.file, offset, unsafe.Slice(at[byte](data), n), func() int32 {
		return function[writeFunc](f.kind.base.FxWrite)(tls, file, data, n, offset)
	})
}

func vfsTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	f := opened(file)
	return f.disk.write(f.file, size, nil, func() int32 {
		return function[truncateFunc](f.kind.base.FxTruncate)(tls, file, size)
	})
}

func vfsSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := opened(file)
	rc := f.disk.sync(f.file, f.fresh, func() int32 {
		return function[syncFunc](f.kind.base.FxSync)(tls, file, flags)
	})
	f.fresh = f.fresh && rc != codes.SQLITE_OK
	return rc
}

func vfsClose(tls *libc.TLS, file uintptr) int32 {
	f := opened(file)
	watched.open.Delete(file)
	return function[closeFunc](f.kind.base.FxClose)(tls, file)
}
