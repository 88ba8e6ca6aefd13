// Package spool keeps records on the disk until they are safe elsewhere.
//
// Records go in at one end, durably, and out at the other in batches, the oldest
// first. Whoever takes a batch says when it is done with it; until then the
// records survive the end of the process and of the machine:
//
//	s, err := spool.Open(dir, spool.Config{})
//	err = s.Append(ctx, records)       // nil: they are on the disk
//	b, err := s.Next(ctx, 200, 1<<20)  // in another goroutine
//	insert(b.Records)
//	b.Done()                           // or b.Return(), and they come again
//
// Which records are done isn't written down. After the next [Open] some of them
// come out once more, so that what is done with them must bear repetition. The
// spool takes a bounded room on the disk and a bounded memory. One process uses
// a directory at a time.
//
// # Files
//
// A segment is a file of records. It is written by the process that made it, to
// its end alone, and removed when all its records are done:
//
//	000000000000002a-5f3a91c4.spool    its number and its salt, a random number
//
//	record  mark    a7 72 65 63        4 bytes
//	        length  of data            4 bytes, as all numbers little-endian
//	        sum     of data            4 bytes, CRC32C
//	        sum     of number, salt, offset of the record, and the 12 bytes above
//	        data
//	...
//	seal    mark    a7 73 65 6c        then as a record; its data, 8 bytes, is
//	                                   the number of records before it
//
// "hello" as the first record of that segment:
//
//	a7726563 05000000 4cbb719a 2f57e273 68656c6c6f
//
// The seal comes when a segment is full. A segment without one was being written
// when its process ended. What follows its last whole record is a write that
// nobody was told had succeeded, and is left out. A damaged record elsewhere is
// skipped; the mark and the second sum find the one after it, and the salt, which
// no sender of data knows, keeps data from passing for a record.
//
// # What the disk does
//
// Records are durable when the segment has been synced, and its directory if the
// segment is new. Callers that come at the same time share a sync. A write that
// fails is cut off again, so that the next one follows what is good. After a sync
// that fails nobody knows what has reached the disk, and a second one may
// succeed for no reason: the segment is written no more, and what wasn't
// acknowledged is written to a new one.
package spool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
)

// Config is how a spool is run. The zero value is usable.
type Config struct {
	// MaxBytes bounds the room on the disk. Zero: 2 GiB.
	MaxBytes int64
	// SegmentBytes is the size at which a segment is full, give or take one
	// group of records. Zero: 16 MiB. It is never more than a quarter of
	// MaxBytes.
	SegmentBytes int64
	// MemoryBytes bounds the records in memory that wait to be handed out; what
	// is beyond is read from the disk again. Zero: 16 MiB.
	MemoryBytes int64
	// FS is the file layer. Nil: the directory of the operating system.
	FS FS
	// Logger hears of damage and of disk errors that no caller is told. Nil:
	// silence.
	Logger *slog.Logger
}

// Spool is a queue of records on the disk. Its methods may be called from any
// goroutine.
type Spool struct {
	cfg  Config
	fs   FS
	lock io.Closer
	log  *slog.Logger

	mu      sync.Mutex
	changed chan struct{} // closed at the next change, if somebody waits
	closing bool

	segments []*segment // oldest first
	active   *segment   // the last of them, while it is written
	trash    []*segment // all done, to be removed
	number   uint64     // of the last segment made

	// What is to be handed out: first what came back, then what is in memory,
	// then what is on the disk from the cursor on.
	returned []item // ascending
	memory   []item
	memBytes int64
	behind   int64 // records from the cursor on
	cursor   place
	reading  bool // somebody reads at the cursor
	reader   reader
	flights  map[*Batch]struct{}

	next  Position // of the next record appended
	stats Stats

	queue   []*request
	scratch []byte // the writer's
	work    chan struct{}
	done    chan struct{} // closed by the writer

	ended    chan struct{} // closed by Close
	closeErr error         // valid then
}

// Stats says what a spool holds.
type Stats struct {
	// Records and Bytes count what isn't done.
	Records, Bytes int64
	// DiskBytes is the length of all files.
	DiskBytes int64
	// Damaged counts the records that were found damaged since Open, and are
	// lost.
	Damaged uint64
}

// Open opens the spool in a directory, which it makes if need be. All that was
// appended and not done is handed out anew. A directory in use is [ErrLocked].
func Open(dir string, cfg Config) (_ *Spool, err error) {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 2 << 30
	}
	if cfg.SegmentBytes <= 0 {
		cfg.SegmentBytes = 16 << 20
	}
	cfg.SegmentBytes = min(cfg.SegmentBytes, cfg.MaxBytes/4)
	if cfg.MemoryBytes <= 0 {
		cfg.MemoryBytes = 16 << 20
	}
	if cfg.FS == nil {
		cfg.FS = directory(dir)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Spool{
		cfg: cfg, fs: cfg.FS, log: cfg.Logger,
		changed: make(chan struct{}),
		flights: make(map[*Batch]struct{}),
		work:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	if s.lock, err = s.fs.Lock(); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	go s.writer()
	return s, nil
}

// load finds the segments. It reads of each no more than the seal, unless there
// is none.
func (s *Spool) load() error {
	files, err := s.fs.List()
	if err != nil {
		return &DiskError{"list the spool", err}
	}
	for _, seg := range segmentsOf(files) {
		s.number = max(s.number, seg.number)
		s.stats.DiskBytes += seg.disk
		if err := s.examine(seg); err != nil {
			s.stats.Damaged++
			s.log.Error("spool: a segment can't be read and is left where it is", "segment", seg.name(), "error", err)
			continue
		}
		if seg.count == 0 {
			s.trash = append(s.trash, seg)
			continue
		}
		s.segments = append(s.segments, seg)
		s.next += Position(seg.count)
		s.behind += seg.count
		s.stats.Records += seg.left
		s.stats.Bytes += seg.bytes
	}
	if len(s.segments) > 0 {
		s.cursor.seg = s.segments[0]
	}
	s.sweep()
	return nil
}

// examine counts a segment's records.
func (s *Spool) examine(seg *segment) error {
	f, err := s.fs.Open(seg.name())
	if err != nil {
		return err
	}
	defer f.Close()
	if ok, err := seg.readSeal(f); err != nil || ok {
		return err
	}
	return seg.scan(f)
}

// Stats counts what the spool holds.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close ends the spool. Calls under way are finished or return net.ErrClosed;
// batches that are out count as not done. It is idempotent.
func (s *Spool) Close() error {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	s.broadcast()
	s.mu.Unlock()
	if first {
		s.closeErr = s.close()
		close(s.ended)
	}
	<-s.ended
	return s.closeErr
}

func (s *Spool) close() error {
	s.poke()
	<-s.done
	s.mu.Lock()
	for s.reading {
		changed := s.changed
		s.mu.Unlock()
		<-changed
		s.mu.Lock()
	}
	s.retire()
	s.reader.close()
	s.flights = nil
	s.mu.Unlock()
	s.sweep()
	return s.lock.Close()
}

// broadcast wakes all who wait. The caller holds the lock.
func (s *Spool) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// create begins a segment.
func (s *Spool) create() (*segment, error) {
	seg := &segment{number: s.number + 1, salt: rand.Uint32()}
	var err error
	if seg.file, err = s.fs.Create(seg.name()); err != nil {
		return nil, fmt.Errorf("create %s: %w", seg.name(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number = seg.number
	s.active = seg
	s.segments = append(s.segments, seg)
	if s.cursor.seg == nil {
		s.cursor = place{seg: seg}
	}
	return seg, nil
}

// retire ends the writing of the active segment, if there is one. The caller
// holds the lock.
func (s *Spool) retire() {
	seg := s.active
	if seg == nil {
		return
	}
	if seg.left > 0 && !seg.suspect {
		// The seal saves work and needs no sync.
		if err := seg.seal(); err == nil {
			s.resize(seg, seg.size+sealSize)
		}
	}
	seg.file.Close()
	seg.file = nil
	s.active = nil
	s.drop(seg)
}

// resize notes the length of a segment's file. The caller holds the lock.
func (s *Spool) resize(seg *segment, length int64) {
	s.stats.DiskBytes += length - seg.disk
	seg.disk = length
}

// drop gives a segment up if it is no longer needed. The caller holds the lock
// and sweeps afterwards.
func (s *Spool) drop(seg *segment) {
	if seg.left > 0 || seg == s.active {
		return
	}
	for i, other := range s.segments {
		if other != seg {
			continue
		}
		if s.cursor.seg == seg {
			s.cursor = place{}
			if i+1 < len(s.segments) {
				s.cursor.seg = s.segments[i+1]
			}
		}
		s.segments = append(s.segments[:i:i], s.segments[i+1:]...)
		if s.reader.seg == seg {
			s.reader.close()
		}
		if !seg.unreadable {
			s.trash = append(s.trash, seg)
		}
		return
	}
}

// sweep removes files that aren't needed. One that comes back, because the
// directory isn't synced, only repeats what is done.
func (s *Spool) sweep() {
	s.mu.Lock()
	trash := s.trash
	s.trash = nil
	s.mu.Unlock()
	for _, seg := range trash {
		err := s.fs.Remove(seg.name())
		s.mu.Lock()
		if err != nil {
			s.trash = append(s.trash, seg) // for the next time
			s.log.Warn("spool: a file can't be removed", "segment", seg.name(), "error", err)
		} else {
			s.stats.DiskBytes -= seg.disk
		}
		s.mu.Unlock()
	}
}

// errClosed is what calls return after Close.
var errClosed = fmt.Errorf("spool: %w", net.ErrClosed)
