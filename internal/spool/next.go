package spool

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
)

// Position is a place in the order of records.
type Position uint64

// Limits of a batch of which the caller names none.
const (
	defaultRecords    = 1000
	defaultBatchBytes = 4 << 20
)

// item is a record that is handed out or about to be.
type item struct {
	data []byte
	seg  *segment
	at   Position
}

// place is where the next record begins that is neither handed out nor in
// memory. Its segment is nil when none is there.
type place struct {
	seg *segment
	off int64
}

// Batch is a number of records that somebody works on.
type Batch struct {
	// Records must not be changed. They remain valid.
	Records [][]byte

	spool *Spool
	items []item
}

// Next takes the oldest records that nobody has, and waits for one if there is
// none: at most so many, and so many bytes of data unless the first alone is
// larger. Zero: 1,000 and 4 MiB. It returns what is there and doesn't wait for
// more.
//
// Errors: those of the context, net.ErrClosed; a [*DiskError] when the disk can't
// be read, in which case the next call tries again, and the third passes over
// the segment.
func (s *Spool) Next(ctx context.Context, maxRecords, maxBytes int) (*Batch, error) {
	if maxRecords <= 0 {
		maxRecords = defaultRecords
	}
	if maxBytes <= 0 {
		maxBytes = defaultBatchBytes
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			return nil, errClosed
		}
		if b := s.take(maxRecords, int64(maxBytes)); b != nil {
			s.mu.Unlock()
			return b, nil
		}
		if s.behind > 0 && !s.reading {
			err := s.refill()
			s.mu.Unlock()
			s.sweep()
			if err != nil {
				return nil, err
			}
			continue
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// take makes a batch of what is in memory. The caller holds the lock.
func (s *Spool) take(maxRecords int, maxBytes int64) *Batch {
	b := &Batch{spool: s}
	size := int64(0)
	from := func(items []item) (rest []item, taken int64) {
		for len(items) > 0 && len(b.items) < maxRecords {
			n := int64(len(items[0].data))
			if size+n > maxBytes && len(b.items) > 0 {
				break
			}
			b.items = append(b.items, items[0])
			b.Records = append(b.Records, items[0].data)
			items[0] = item{}
			items = items[1:]
			size += n
			taken += n
		}
		return items, taken
	}
	s.returned, _ = from(s.returned)
	if len(s.returned) == 0 {
		var taken int64
		s.memory, taken = from(s.memory)
		s.memBytes -= taken
	}
	if len(b.items) == 0 {
		return nil
	}
	s.flights[b] = struct{}{}
	return b
}

// Done says that a batch's records are safe elsewhere. It and Return have no
// effect on a batch that is done or returned.
func (b *Batch) Done() {
	s := b.spool
	s.mu.Lock()
	if !b.land() {
		s.mu.Unlock()
		return
	}
	for _, it := range b.items {
		n := int64(len(it.data))
		it.seg.left--
		s.stats.Records--
		s.stats.Bytes -= n
		if it.seg.left == 0 {
			s.drop(it.seg)
		}
	}
	b.items = nil
	s.broadcast()
	s.mu.Unlock()
	s.sweep()
}

// Return has a batch's records handed out again, before all that are younger.
func (b *Batch) Return() {
	s := b.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	if !b.land() {
		return
	}
	s.returned = append(s.returned, b.items...)
	slices.SortFunc(s.returned, func(a, b item) int { return cmp.Compare(a.at, b.at) })
	b.items = nil
	s.broadcast()
}

// land ends a batch's flight. The caller holds the lock.
func (b *Batch) land() bool {
	_, ok := b.spool.flights[b]
	delete(b.spool.flights, b)
	return ok
}

// Position is where the next record will be appended.
func (s *Spool) Position() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// Wait waits until all records before a position are done. It returns
// net.ErrClosed when the spool is closed before.
func (s *Spool) Wait(ctx context.Context, p Position) error {
	for {
		s.mu.Lock()
		changed, closing, oldest := s.changed, s.closing, s.oldest()
		s.mu.Unlock()
		switch {
		case oldest >= p:
			return nil
		case closing:
			return errClosed
		case ctx.Err() != nil:
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// oldest is the place of the oldest record that isn't done. The caller holds the
// lock.
func (s *Spool) oldest() Position {
	oldest := s.next - Position(s.behind)
	if len(s.memory) > 0 {
		oldest = s.memory[0].at
	}
	if len(s.returned) > 0 {
		oldest = min(oldest, s.returned[0].at)
	}
	for b := range s.flights {
		oldest = min(oldest, b.items[0].at)
	}
	return oldest
}

// reader is an open segment.
type reader struct {
	seg  *segment
	file File
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
	}
	*r = reader{}
}

// refill reads records from the disk into memory, where there are none. The
// caller holds the lock, which is released meanwhile, and reads alone.
func (s *Spool) refill() error {
	seg, from, limit := s.cursor.seg, s.cursor.off, s.cursor.seg.size
	expected, bytes := seg.count-seg.passed, seg.bytes-seg.passedBytes
	var c chunk
	var err error
	if expected > 0 && from < limit {
		s.reading = true
		if s.reader.seg != seg {
			s.reader.close()
			s.reader.seg = seg
		}
		r := &s.reader
		s.mu.Unlock()
		if r.file == nil {
			r.file, err = s.fs.Open(seg.name())
		}
		if err == nil {
			c, err = seg.read(r.file, from, limit)
		}
		s.mu.Lock()
		s.reading = false
		s.broadcast()
	}
	if err != nil {
		s.reader.close()
		gone := errors.Is(err, fs.ErrNotExist)
		if seg.failures++; seg.failures < 3 && !gone {
			return &DiskError{"read", err}
		}
		s.log.Error("spool: a segment can't be read and is passed over", "segment", seg.name(), "error", err)
		seg.unreadable = !gone
		c.end = limit
	} else if expected > 0 && from < limit {
		seg.failures = 0
	} else {
		c.end = limit
	}
	at := s.next - Position(s.behind)
	for _, r := range c.records {
		n := int64(len(r.data))
		s.memory = append(s.memory, item{r.data, seg, at})
		at++
		s.memBytes += n
		seg.passed++
		seg.passedBytes += n
		expected--
		bytes -= n
	}
	s.behind -= int64(len(c.records))
	s.cursor.off = c.end
	if c.end >= limit {
		s.pass(seg, expected, bytes)
	}
	return nil
}

// pass has the cursor leave what it has read of a segment, in which so many
// records weren't found. The caller holds the lock.
func (s *Spool) pass(seg *segment, missing, bytes int64) {
	if missing > 0 {
		s.log.Error("spool: damaged records are lost", "segment", seg.name(), "records", missing)
		s.stats.Damaged += uint64(missing)
		s.stats.Records -= missing
		s.stats.Bytes -= bytes
		s.behind -= missing
		seg.passed += missing
		seg.passedBytes += bytes
		seg.left -= missing
	}
	if seg == s.active || seg.passed < seg.count {
		return
	}
	if i := slices.Index(s.segments, seg); i >= 0 && i+1 < len(s.segments) {
		s.cursor = place{seg: s.segments[i+1]}
	}
	s.drop(seg)
}

// cutRecord splits the data of the first record off b.
func cutRecord(b []byte) (data, rest []byte) {
	n := headerSize + binary.LittleEndian.Uint32(b[4:])
	return b[headerSize:n:n], b[n:]
}
