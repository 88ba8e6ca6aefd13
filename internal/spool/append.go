package spool

import (
	"context"
	"errors"
	"slices"
)

// maxGroupBytes is when a group of records that share a sync is large enough.
const maxGroupBytes = 4 << 20

// request is a call of Append.
type request struct {
	buf  []byte // the records as they are written
	n    int64
	done chan error // with room for one
}

// Append keeps records, all of them or none. When it returns nil they are
// durable. When its context ends first they may or may not be kept; otherwise an
// error means that they aren't, unless the process ends soon after.
//
// Errors: [*FullError], [*DiskError], [ErrTooLarge], net.ErrClosed, those of the
// context. The records are the caller's again when it returns.
func (s *Spool) Append(ctx context.Context, records [][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	size := 0
	for _, r := range records {
		if len(r) > MaxRecordBytes {
			return ErrTooLarge
		}
		size += headerSize + len(r)
	}
	r := &request{buf: make([]byte, 0, size), n: int64(len(records)), done: make(chan error, 1)}
	for _, data := range records {
		r.buf = appendRecord(r.buf, recordMark, data)
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return errClosed
	}
	if r.n == 0 {
		s.mu.Unlock()
		return nil
	}
	s.queue = append(s.queue, r)
	s.mu.Unlock()
	s.poke()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if i := slices.Index(s.queue, r); i >= 0 {
			s.queue = slices.Delete(s.queue, i, i+1)
		}
		return ctx.Err()
	}
}

// poke tells the writer that there is something to do.
func (s *Spool) poke() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// writer writes what is queued, one group after the other, until Close.
func (s *Spool) writer() {
	defer close(s.done)
	for range s.work {
		for {
			group, closing := s.group()
			if len(group) > 0 {
				err := s.commit(group)
				for _, r := range group {
					r.done <- err
				}
				continue
			}
			if closing {
				return
			}
			break
		}
	}
}

// group takes requests off the queue that fit into the spool together. One that
// would exceed the bound is refused.
func (s *Spool) group() (group []*request, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(0)
	for len(s.queue) > 0 && size < maxGroupBytes {
		r := s.queue[0]
		n := int64(len(r.buf))
		if !s.fits(size+n) && len(group) == 0 {
			// A segment whose records are done needn't be full to go.
			if s.active != nil && s.active.left == 0 {
				s.retire()
			}
			s.mu.Unlock()
			s.sweep()
			s.mu.Lock()
			if len(s.queue) == 0 || s.queue[0] != r {
				continue // its caller has left meanwhile
			}
		}
		if !s.fits(size + n) {
			if len(group) > 0 {
				break
			}
			s.queue = s.queue[1:]
			r.done <- &FullError{Limit: s.cfg.MaxBytes}
			continue
		}
		s.queue = s.queue[1:]
		group = append(group, r)
		size += n
	}
	return group, s.closing
}

func (s *Spool) fits(size int64) bool {
	return s.stats.DiskBytes+size+2*sealSize <= s.cfg.MaxBytes // the active segment's seal and a new one's
}

// errSuspect is the error of a segment that must not be written any more.
var errSuspect = errors.New("sync failed")

// commit makes a group durable and lets it be handed out.
func (s *Spool) commit(group []*request) error {
	buf := group[0].buf
	if len(group) > 1 {
		buf = s.scratch[:0]
		for _, r := range group {
			buf = append(buf, r.buf...)
		}
		if cap(buf) <= 2*maxGroupBytes {
			s.scratch = buf
		}
	}
	err := s.write(buf)
	if errors.Is(err, errSuspect) {
		s.log.Warn("spool: a sync failed; going on in a new segment", "error", err)
		err = s.write(buf)
	}
	if err != nil {
		return &DiskError{"append", err}
	}
	s.publish(group, int64(len(buf)))
	return nil
}

// write writes records to the end of the active segment and syncs them. On an
// error the segment is as before, or active no more.
func (s *Spool) write(b []byte) error {
	s.mu.Lock()
	if s.active != nil && s.active.size >= s.cfg.SegmentBytes {
		s.retire()
	}
	seg := s.active
	s.mu.Unlock()
	s.sweep()
	if seg == nil {
		var err error
		if seg, err = s.create(); err != nil {
			return err
		}
		seg.fresh = true
	}
	seg.place(b, seg.size)
	_, err := seg.file.WriteAt(b, seg.size)
	if err == nil {
		if err = seg.file.Sync(); err == nil && seg.fresh {
			err = s.fs.Sync()
		}
		if err == nil {
			seg.fresh = false
			return nil
		}
		seg.suspect = true
		err = errors.Join(errSuspect, err)
	}
	if cut := seg.file.Truncate(seg.size); cut != nil {
		// What is there now may be any part of b.
		seg.suspect = true
		s.log.Warn("spool: a failed write can't be cut off; going on in a new segment", "error", cut)
		s.mu.Lock()
		s.resize(seg, seg.size+int64(len(b)))
		s.mu.Unlock()
	}
	if seg.suspect || seg.size == 0 {
		s.mu.Lock()
		s.retire()
		s.mu.Unlock()
		s.sweep()
	}
	return err
}

// publish lets a group that is durable be handed out.
func (s *Spool) publish(group []*request, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg := s.active
	for _, r := range group {
		data := int64(len(r.buf)) - r.n*headerSize
		seg.count += r.n
		seg.left += r.n
		seg.bytes += data
		seg.size += int64(len(r.buf))
		s.next += Position(r.n)
		s.stats.Records += r.n
		s.stats.Bytes += data
		// Memory holds what comes before the cursor: once something is left to
		// the disk, all that follows it is, too.
		if s.behind > 0 || s.memBytes+data > s.cfg.MemoryBytes {
			s.behind += r.n
			continue
		}
		first := s.next - Position(r.n)
		for b := r.buf; len(b) > 0; {
			var data []byte
			data, b = cutRecord(b)
			s.memory = append(s.memory, item{data, seg, first})
			first++
		}
		s.memBytes += data
		seg.passed += r.n
		seg.passedBytes += data
		s.cursor = place{seg, seg.size}
	}
	s.resize(seg, seg.size)
	s.broadcast()
}
