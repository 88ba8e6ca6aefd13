package filter

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
)

// line is where requests to one peer wait for their turn. It is a token bucket as
// well; Client.mu guards it.
type line struct {
	busy    bool
	waiting []chan struct{} // first come, first served; closed when it is one's turn

	tokens   float64
	at       time.Time // of tokens
	next     time.Time // not before
	refusals int       // in a row, for asking too often
}

func newLine(burst int) line { return line{tokens: float64(burst)} }

// turn runs f when it is this call's turn to ask p. The calls of f for one peer
// happen one after the other, in the order of the calls of turn.
func (c *Client) turn(ctx context.Context, p peer.ID, f func(ctx context.Context) error) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.wg.Add(1)
	defer c.wg.Done()
	k := c.contact(p)
	first := !k.line.busy
	k.line.busy = true
	mine := make(chan struct{})
	if !first {
		k.line.waiting = append(k.line.waiting, mine)
	}
	c.mu.Unlock()

	ctx, stop := c.withClose(ctx)
	defer stop()
	if !first {
		select {
		case <-mine:
		case <-ctx.Done():
			c.giveUp(k, mine)
			return context.Cause(ctx)
		}
	}
	defer c.leave(k)
	return f(ctx)
}

// leave lets the next one ask.
func (c *Client) leave(k *contact) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.line.leave()
}

func (l *line) leave() {
	if len(l.waiting) == 0 {
		l.busy = false
		return
	}
	close(l.waiting[0])
	l.waiting = slices.Delete(l.waiting, 0, 1)
}

func (c *Client) giveUp(k *contact, mine chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(k.line.waiting, mine); i >= 0 {
		k.line.waiting = slices.Delete(k.line.waiting, i, i+1)
		return
	}
	k.line.leave() // it had become our turn
}

// pause waits until p may be asked, and takes a token.
func (c *Client) pause(ctx context.Context, p peer.ID) error {
	for {
		c.mu.Lock()
		wait := c.contact(p).line.take(time.Now(), c.cfg)
		c.mu.Unlock()
		if wait <= 0 {
			return context.Cause(ctx)
		}
		if err := reqresp.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// fill fills the bucket up to now.
func (l *line) fill(now time.Time, cfg ClientConfig) {
	if d := now.Sub(l.at); d > 0 {
		l.tokens = min(float64(cfg.Burst), l.tokens+d.Seconds()*max(cfg.Rate, 0))
		l.at = now
	}
}

// take takes a token, or says when to ask again.
func (l *line) take(now time.Time, cfg ClientConfig) time.Duration {
	l.fill(now, cfg)
	if wait := l.next.Sub(now); wait > 0 {
		return wait
	}
	if cfg.Rate <= 0 {
		return 0
	}
	if l.tokens < 1 {
		return time.Duration((1-l.tokens)/cfg.Rate*float64(time.Second)) + time.Millisecond
	}
	l.tokens--
	return 0
}

// asked notes an answer, or that there was none. The gap begins only now: however
// long either took on its way, the peer then sees its requests that far apart.
func (l *line) asked(now time.Time, cfg ClientConfig) {
	l.refusals = 0
	if cfg.Rate > 0 {
		l.next = now.Add(cfg.Gap)
	}
}

// Pauses after a refusal whose peer doesn't say how long.
const (
	firstPause   = 2 * time.Second
	longestPause = time.Minute
)

// refused notes that p was asked too often.
func (l *line) refused(now time.Time, after time.Duration) {
	pause := min(firstPause<<min(l.refusals, 10), longestPause)
	l.refusals++
	l.next = now.Add(max(after, pause))
	if after > 0 {
		l.next = now.Add(after)
	}
}

// fresh reports whether the line is no different from a new one.
func (l *line) fresh(now time.Time, cfg ClientConfig) bool {
	l.fill(now, cfg)
	return !l.busy && !l.next.After(now) && (cfg.Rate <= 0 || l.tokens >= float64(cfg.Burst))
}
