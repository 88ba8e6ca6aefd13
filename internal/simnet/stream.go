package simnet

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// segment is what one Write left, or the end of a stream.
type segment struct {
	data  []byte
	split split
	end   bool
}

// stream is one end of a stream.
type stream struct {
	conn *conn
	far  *stream // the other end
	id   protocol.ID
	dir  network.Direction

	mu      sync.Mutex
	arrived sync.Cond
	queue   [][]byte
	read    int  // bytes of the first one that were read
	eof     bool // the other end writes no more
	reset   bool
	shut    bool // nobody reads here any more
	done    bool // nor writes
	until   deadline
	writeBy time.Time
}

// deadline is the reader's. Writers seldom wait and look at theirs when they do.
type deadline struct {
	timer *time.Timer
	past  bool
	epoch int
}

var _ network.Stream = (*stream)(nil)

func newStream(c *conn, id protocol.ID) *stream {
	s := &stream{conn: c, id: id}
	s.arrived.L = &s.mu
	return s
}

// arrive takes what came off the wire, now or when the downlink has let it through.
func (s *stream) arrive(e *event) {
	h := s.conn.local
	if n := len(e.seg.data); n > 0 {
		if at := h.received(e.at, n); at > e.at+h.net.clock.tick {
			seg := e.seg
			h.net.clock.add(event{at: at, do: func() { s.take(&seg) }})
			return
		}
	}
	s.take(&e.seg)
}

func (s *stream) take(seg *segment) {
	s.conn.local.in.add(&seg.split)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case seg.end:
		s.eof = true
	case s.reset || s.shut:
		pool.Put(seg.data)
		return
	default:
		s.queue = append(s.queue, seg.data)
	}
	s.arrived.Broadcast()
}

// Read implements network.Stream.
func (s *stream) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.reset, s.shut:
			return 0, network.ErrReset
		case s.until.past:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case len(s.queue) > 0:
			first := s.queue[0]
			n := copy(b, first[s.read:])
			if s.read += n; s.read == len(first) {
				pool.Put(first)
				s.queue[0], s.read = nil, 0
				if s.queue = s.queue[1:]; len(s.queue) == 0 {
					s.queue = nil
				}
			}
			return n, nil
		case s.eof:
			return 0, io.EOF
		}
		s.arrived.Wait()
	}
}

// Write implements network.Stream. It waits for room in the uplink's buffer.
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	ended, by := s.reset || s.done, s.writeBy
	s.mu.Unlock()
	if ended {
		return 0, network.ErrReset
	}
	if len(b) == 0 {
		return 0, nil
	}
	seg := segment{data: pool.Get(len(b)), split: classify(b)}
	copy(seg.data, b)
	wait := s.conn.send(event{to: s.far, seg: seg}, len(b))
	if wait <= 0 {
		return len(b), nil
	}
	if left := time.Until(by); !by.IsZero() && left < wait {
		time.Sleep(max(0, left))
		return len(b), os.ErrDeadlineExceeded
	}
	time.Sleep(wait)
	return len(b), nil
}

// CloseWrite implements network.Stream.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	told := s.done || s.reset
	s.done = true
	over := s.shut || s.eof
	s.mu.Unlock()
	if !told {
		s.conn.send(event{to: s.far, seg: segment{end: true}}, 0)
	}
	if over {
		s.conn.drop(s)
	}
	return nil
}

// CloseRead implements network.Stream.
func (s *stream) CloseRead() error {
	s.mu.Lock()
	s.shut = true
	over := s.done
	s.arrived.Broadcast()
	s.mu.Unlock()
	if over {
		s.conn.drop(s)
	}
	return nil
}

// Close implements network.Stream.
func (s *stream) Close() error {
	_ = s.CloseRead()
	return s.CloseWrite()
}

// Reset implements network.Stream.
func (s *stream) Reset() error {
	if s.broken() {
		s.conn.send(event{do: func() {
			s.far.broken()
			s.far.conn.drop(s.far)
		}}, 0)
	}
	s.conn.drop(s)
	return nil
}

// broken ends this end, and returns whether it hadn't ended yet.
func (s *stream) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset {
		return false
	}
	s.reset = true
	s.queue = nil
	s.stopTimer()
	s.arrived.Broadcast()
	return true
}

func (s *stream) ResetWithError(network.StreamErrorCode) error { return s.Reset() }

// SetDeadline implements network.Stream.
func (s *stream) SetDeadline(t time.Time) error {
	_ = s.SetWriteDeadline(t)
	return s.SetReadDeadline(t)
}

// SetWriteDeadline implements network.Stream.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy = t
	return nil
}

// SetReadDeadline implements network.Stream.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopTimer()
	s.until.past = false
	if t.IsZero() || s.reset {
		return nil
	}
	epoch := s.until.epoch
	s.until.timer = time.AfterFunc(max(0, time.Until(t)), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.until.epoch == epoch {
			s.until.past = true
			s.arrived.Broadcast()
		}
	})
	return nil
}

// stopTimer makes a timer that fired before it was stopped find itself outdated.
func (s *stream) stopTimer() {
	s.until.epoch++
	if s.until.timer != nil {
		s.until.timer.Stop()
		s.until.timer = nil
	}
}

func (s *stream) ID() string                       { return s.conn.ID() }
func (s *stream) Protocol() protocol.ID            { return s.id }
func (s *stream) SetProtocol(id protocol.ID) error { s.id = id; return nil }
func (s *stream) Conn() network.Conn               { return s.conn }
func (s *stream) Scope() network.StreamScope       { return &network.NullScope{} }

func (s *stream) Stat() network.Stats {
	return network.Stats{Direction: s.dir, Opened: s.conn.opened}
}
