package filter

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/status-im/shoal/internal/reqresp"
)

const (
	// singleRate and singleBurst are what go-waku takes of streams, a little less.
	singleRate, singleBurst = 14.0, 16.0
	// maxTries is how often one push may fail by itself: less often than it takes
	// to lose a subscriber.
	maxTries = DefaultFailures - 1
	// Pauses after a failure.
	firstRetry, longestRetry = 250 * time.Millisecond, 5 * time.Second
)

// job is one push, how to send it, and what came of it.
type job struct {
	item
	single  bool
	careful bool
	wait    time.Duration // before
	began   time.Time
	written bool // perhaps
	err     error
}

// errTaken says that a stream is over, and with the pushes on it somebody has dealt.
var errTaken = errors.New("taken care of")

// work sends what waits, until there is nothing left to do.
func (u *subscriber) work(single bool) {
	for {
		j, lost, ok := u.next(single)
		if lost > 0 {
			tell(u.srv.cfg.OnFailure, u.peer, &OverflowError{Dropped: lost})
		}
		if !ok {
			return
		}
		if j.wait > 0 && reqresp.Sleep(u.srv.ctx, j.wait) != nil {
			return
		}
		u.send(&j)
		if reason := u.sent(j); reason != nil {
			u.srv.evict(u, reason)
		}
	}
}

func (u *subscriber) send(j *job) {
	j.began = time.Now()
	if j.single {
		j.err = u.sendSingle(j)
	} else {
		j.err = u.sendKept(j)
	}
}

// limit is the context of what needs one and may take PushTimeout. Writing to a
// stream that is kept doesn't: a context would be most of its cost.
func (u *subscriber) limit() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(u.srv.ctx, u.srv.cfg.PushTimeout, ErrSlow)
}

// slow is ErrSlow if that is what ended ctx, or else err.
func slow(ctx context.Context, err error) error {
	if err != nil && context.Cause(ctx) == ErrSlow {
		return ErrSlow
	}
	return err
}

// next takes a push, or ends the worker. It also returns what was dropped and may be
// told: when the worker ends, or as many were as the queue holds.
func (u *subscriber) next(single bool) (j job, lost uint64, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if single {
		u.singles--
		ok = u.single && u.singles < u.mostSingles()
	} else {
		u.writing = false
		ok = !u.single && u.hasRoom()
	}
	ok = ok && !u.ended && !u.absent && len(u.queue.items) > 0
	lost = u.takeDropped(!ok || u.dropped >= uint64(u.srv.cfg.Queue))
	if !ok {
		if !u.absent {
			u.start() // workers of the other kind
		}
		return job{}, lost, false
	}
	now := time.Now()
	j = job{item: u.queue.take(), single: single, careful: u.failures > 0, wait: u.notBefore.Sub(now)}
	if !single {
		u.writing = true
		return j, lost, true
	}
	u.singles++
	j.wait = max(j.wait, u.pace.Reserve(now, singleRate, singleBurst))
	u.start() // one more, if there is more
	return j, lost, true
}

// sent notes what became of a push, and returns why its subscriber must go.
func (u *subscriber) sent(j job) (evict error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.ended, j.err == errTaken:
		return nil
	case j.err == ErrSlow:
		return ErrSlow
	case j.err == nil:
		u.srv.stats.sent.Add(1)
		u.srv.stats.bytes.Add(uint64(len(j.frame)))
		if j.single {
			u.failures = 0
		}
		return nil
	}
	if j.written {
		j.tries++
	}
	u.again([]item{j.item})
	return u.failed(j.began, j.err)
}

// again puts pushes back that weren't taken, but for those that fail by themselves.
// u.mu is held.
func (u *subscriber) again(items []item) {
	var rest []item
	for _, x := range items {
		if x.tries < maxTries {
			rest = append(rest, x)
		}
	}
	u.lose(len(items) - len(rest))
	u.lose(u.queue.back(rest, u.srv.cfg.Queue, u.srv.cfg.QueueBytes))
}

// failed counts a failure, unless it is one with the last or there is no
// connection. u.mu is held.
func (u *subscriber) failed(began time.Time, err error) (evict error) {
	if !u.srv.connected(u) {
		u.absent, u.single, u.failures = true, false, 0 // who comes back may be another program
		return nil
	}
	now := time.Now()
	if u.failures > 0 && !began.After(u.lastFailed) {
		return nil
	}
	u.failures++
	u.lastFailed = now
	u.notBefore = now.Add(min(firstRetry<<min(u.failures-1, 10), longestRetry))
	switch {
	case u.failures < u.srv.cfg.Failures:
		return nil
	case errors.Is(err, ErrUnsupported):
		return errors.Join(ErrRefused, ErrUnsupported)
	}
	return ErrRefused
}

// sendSingle sends a push on a stream of its own, and waits for the subscriber to
// end it.
func (u *subscriber) sendSingle(j *job) error {
	ctx, cancel := u.limit()
	defer cancel()
	s, err := u.srv.host.NewStream(noDial(ctx), u.peer, PushID)
	if err != nil {
		return slow(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	if err = s.Scope().SetService(Service); err != nil {
		s.Reset()
		return err
	}
	j.written = true
	if _, err = s.Write(j.frame); err == nil {
		err = s.CloseWrite()
	}
	if err == nil {
		_, err = s.Read(make([]byte, 1))
	}
	if err == io.EOF {
		s.Close()
		return nil
	}
	s.Reset()
	if err == nil {
		err = errAnswer
	}
	return slow(ctx, err)
}

var errAnswer = errors.New("the subscriber answers pushes")

// sendKept sends a push on the stream that is kept for all. While that isn't trusted,
// what becomes of pushes on it is for watch to see to.
func (u *subscriber) sendKept(j *job) error {
	k, err := u.stream(j.careful)
	if err != nil {
		return err
	}
	if !u.remember(k, j.item) {
		return errTaken
	}
	j.written = true
	timer := time.AfterFunc(u.srv.cfg.PushTimeout, func() { k.stream.Reset() })
	_, err = k.stream.Write(j.frame)
	switch inTime := timer.Stop(); {
	case err == nil:
		return nil
	case !inTime:
		return ErrSlow
	case !u.leaveTrusted(k):
		return errTaken
	}
	k.stream.Reset()
	return err
}

// leaveTrusted is leave for a stream that nobody watches any more.
func (u *subscriber) leaveTrusted(k *kept) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.kept != k || !k.trusted {
		return false
	}
	u.kept = nil
	return true
}

// remember holds on to what is written on a stream that isn't trusted. If that is
// over already it puts the push back and returns false.
func (u *subscriber) remember(k *kept, x item) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.kept != k:
		u.again([]item{x})
		return false
	case !k.trusted:
		k.recent = append(k.recent, x)
		k.bytes += len(x.frame)
	}
	return true
}
