package p2ptest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// pipeBuffer is how many bytes one direction of a connection holds before its
// writer has to wait, about what a socket holds.
const pipeBuffer = 256 << 10

// segment is what one Write left in the pipe, readable from due on.
type segment struct {
	data []byte
	due  time.Time
}

// half is one direction of a connection. It waits with a sync.Cond and wakes
// with time.AfterFunc alone: both let a synctest bubble settle, and no timer
// channel is ever polled (see Bubble for why that matters).
type half struct {
	latency time.Duration

	mu       sync.Mutex
	cond     sync.Cond
	queue    []segment
	buffered int
	eof      bool // the writer closed
	gone     bool // the reader closed
	void     bool // what is written vanishes
	read     deadline
	write    deadline
}

func newHalf(latency time.Duration) *half {
	h := &half{latency: latency}
	h.cond.L = &h.mu
	return h
}

// deadline is guarded by the half's mutex; past is set when it has run out.
type deadline struct {
	timer *time.Timer
	past  bool
	epoch int
}

func (h *half) setDeadline(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.epoch++ // a timer that fired before Stop finds itself outdated
	d.past = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.past = true
		h.cond.Broadcast()
		return
	}
	epoch := d.epoch
	d.timer = time.AfterFunc(wait, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if d.epoch == epoch {
			d.past = true
			h.cond.Broadcast()
		}
	})
}

func (h *half) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	written := 0
	for {
		switch {
		case h.eof || h.gone:
			return written, io.ErrClosedPipe
		case h.write.past:
			return written, os.ErrDeadlineExceeded
		case h.void:
			return len(b), nil
		case written == len(b):
			return written, nil
		}
		room := pipeBuffer - h.buffered
		if room <= 0 {
			h.cond.Wait()
			continue
		}
		n := min(room, len(b)-written)
		h.push(b[written : written+n])
		written += n
	}
}

func (h *half) push(b []byte) {
	s := segment{data: append([]byte(nil), b...)}
	if h.latency > 0 {
		s.due = time.Now().Add(h.latency)
		time.AfterFunc(h.latency, h.wake)
	}
	h.queue = append(h.queue, s)
	h.buffered += len(b)
	if h.latency == 0 {
		h.cond.Broadcast()
	}
}

func (h *half) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cond.Broadcast()
}

func (h *half) Read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.gone:
			return 0, io.ErrClosedPipe
		case h.read.past:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case len(h.queue) > 0 && (h.latency == 0 || !h.queue[0].due.After(time.Now())):
			return h.pop(b), nil
		case len(h.queue) == 0 && h.eof:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) pop(b []byte) int {
	first := &h.queue[0]
	n := copy(b, first.data)
	first.data = first.data[n:]
	if len(first.data) == 0 {
		h.queue[0] = segment{}
		h.queue = h.queue[1:]
	}
	h.buffered -= n
	h.cond.Broadcast()
	return n
}

func (h *half) closeWrite() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.void {
		return // nobody hears of it
	}
	h.eof = true
	h.cond.Broadcast()
}

func (h *half) closeRead() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = true
	h.queue, h.buffered = nil, 0
	h.cond.Broadcast()
}

// lose lets everything vanish that hasn't been read, and what is written from now
// on, the end of the connection included.
func (h *half) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.void = true
	h.queue, h.buffered = nil, 0
	h.cond.Broadcast()
}

// conn is one end of an in-memory connection.
type conn struct {
	in, out       *half
	local, remote net.Addr
	net           *Network   // nil: nobody keeps it
	mine, theirs  *meter     // nil: nobody counts
	peer          netip.Addr // whose the other end is; the Network guards it
}

func newConnPair(a, b net.Addr, latency time.Duration) (*conn, *conn) {
	ab, ba := newHalf(latency), newHalf(latency)
	return &conn{in: ba, out: ab, local: a, remote: b}, &conn{in: ab, out: ba, local: b, remote: a}
}

func (c *conn) Read(b []byte) (int, error) { return c.in.Read(b) }

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.Write(b)
	if c.mine != nil {
		c.mine.out.Add(uint64(n))
		c.theirs.in.Add(uint64(n))
	}
	return n, err
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Close() error {
	if c.net != nil {
		c.net.forget(c)
	}
	c.out.closeWrite()
	c.in.closeRead()
	var none time.Time
	return c.SetDeadline(none)
}

func (c *conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.read, t)
	c.out.setDeadline(&c.out.write, t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.read, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.write, t)
	return nil
}
