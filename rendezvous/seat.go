package rendezvous

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// seat keeps one registration alive, at one point after the other. All but run's own
// is guarded by the registrar's mutex.
type seat struct {
	r    *Registrar
	ns   string
	ctx  context.Context // ends when the seat does
	stop context.CancelFunc
	wake chan struct{}

	point    peer.ID // empty: none
	held     held
	failures int
	last     time.Time // last request
	retry    time.Time
	look     time.Duration
}

// held is what a point has granted.
type held struct {
	expires time.Time // zero: nothing
	renew   time.Time
	since   time.Time
	addrs   string
}

// forever is until woken.
const forever = time.Duration(-1)

func (s *seat) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for s.ctx.Err() == nil {
		wait := s.step()
		if wait == 0 {
			continue
		}
		var tick <-chan time.Time
		if wait != forever {
			timer.Reset(wait)
			tick = timer.C
		}
		select {
		case <-tick:
		case <-s.wake:
		case <-s.ctx.Done():
		}
	}
	s.leave()
}

// step makes the request that is due, or says how long there is none.
func (s *seat) step() (wait time.Duration) {
	points, addrs := s.r.cfg.Points(), s.r.cfg.Addrs()
	print := fingerprint(addrs)
	ctx, p, wait := s.plan(points, print, time.Now())
	if p == "" {
		return wait
	}
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(s.ctx, cancel)
	granted, err := s.r.client.Register(ctx, p, s.ns, slices.Clone(addrs), s.r.cfg.TTL)
	stopped := ctx.Err() != nil
	unhook()
	cancel()
	if err != nil && !stopped && s.r.cfg.OnFailure != nil {
		s.r.cfg.OnFailure(p, s.ns, err)
	}
	s.settle(p, print, granted, err, stopped)
	return 0
}

// plan says where to register now. Empty: nowhere before so long.
func (s *seat) plan(points []peer.ID, addrs string, now time.Time) (ctx context.Context, p peer.ID, wait time.Duration) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused || addrs == "" {
		return nil, "", forever
	}
	if s.point != "" && !slices.Contains(points, s.point) {
		s.move("")
	}
	if s.point == "" {
		p, wait := s.pick(points, now)
		if p == "" {
			return nil, "", wait
		}
		s.move(p)
	}
	due := s.retry
	if !s.held.expires.IsZero() && s.failures == 0 {
		due = s.held.renew
		if s.held.addrs != addrs {
			due = earlier(due, s.held.since.Add(changeRest))
		}
	}
	if !s.last.IsZero() && due.Before(s.last.Add(leastRest)) && s.failures == 0 {
		due = s.last.Add(leastRest)
	}
	if wait := due.Sub(now); wait > 0 {
		return nil, "", wait
	}
	s.last = now
	return r.active, s.point, 0
}

// move leaves a point for another. Nothing is known of what that has.
func (s *seat) move(p peer.ID) {
	s.point, s.held, s.failures, s.retry = p, held{}, 0, time.Time{}
}

// soon is as soon as it may be.
func (s *seat) soon() { s.retry = earlier(s.retry, s.last.Add(leastRest)) }

// pick chooses a point at random that no other seat of the namespace has and that
// isn't left alone, or says when to look again.
func (s *seat) pick(points []peer.ID, now time.Time) (peer.ID, time.Duration) {
	s.look = min(max(2*s.look, firstLook), maxLook)
	var free []peer.ID
	next := now.Add(s.look)
	for _, p := range points {
		if slices.ContainsFunc(s.r.seats[s.ns], func(o *seat) bool { return o != s && o.point == p }) {
			continue
		}
		until := later(s.r.cooling[place{p, ""}].until, s.r.cooling[place{p, s.ns}].until)
		if now.Before(until) {
			next = earlier(next, until)
			continue
		}
		free = append(free, p)
	}
	if len(free) == 0 {
		return "", next.Sub(now)
	}
	s.look = 0
	return free[rand.IntN(len(free))], 0
}

// settle notes what became of a request.
func (s *seat) settle(p peer.ID, addrs string, granted time.Duration, err error, stopped bool) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var status *StatusError
	switch {
	case err == nil:
		s.held = held{expires: now.Add(granted), renew: now.Add(renewal(granted)), since: now, addrs: addrs}
		s.failures, s.retry = 0, time.Time{}
		delete(r.cooling, place{point: p})
		delete(r.cooling, place{p, s.ns})
	case stopped: // it says nothing about the point
		s.retry = time.Time{}
	case errors.Is(err, ErrUnsupported), errors.Is(err, ErrMalformed):
		r.cool(place{point: p}, now, refusedCooling)
		s.move("")
	case errors.Is(err, ErrInvalidNamespace), errors.Is(err, ErrInvalidRecord),
		errors.Is(err, ErrInvalidTTL), errors.Is(err, ErrNotAuthorized):
		r.cool(place{p, s.ns}, now, refusedCooling)
		s.move("")
	case errors.As(err, &status) && status.RetryAfter > tooLong:
		r.cool(place{p, s.ns}, now, jitter(status.RetryAfter))
		s.move("")
	default:
		s.failures++
		if s.failures >= tries || r.cooling[place{point: p}].next > 0 {
			r.cool(place{point: p}, now, 0)
			s.move("")
			break
		}
		pause := jitter(firstRetry << (s.failures - 1))
		if status != nil {
			pause = max(pause, jitter(status.RetryAfter))
		}
		s.retry = now.Add(pause)
	}
}

// tooLong is a wait that others are tried for.
const tooLong = 30 * time.Second

// maxCoolings bounds what is remembered of points that failed.
const maxCoolings = 1024

// cool leaves a point alone: for d, or by default ever longer.
func (r *Registrar) cool(at place, now time.Time, d time.Duration) {
	c := r.cooling[at]
	if d == 0 {
		c.next = min(max(2*c.next, firstCooling), maxCooling)
		d = jitter(c.next)
	}
	c.until = now.Add(d)
	if len(r.cooling) >= maxCoolings {
		for at, c := range r.cooling {
			if !now.Before(c.until) {
				delete(r.cooling, at)
			}
		}
	}
	if len(r.cooling) < maxCoolings {
		r.cooling[at] = c
	}
}

// renewal is when to renew a registration: after half to three quarters of its time.
func renewal(ttl time.Duration) time.Duration {
	return max(ttl/2+time.Duration(rand.Int64N(int64(ttl/4)+1)), leastRenewal)
}

// jitter is d, or up to a quarter more.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d/4)+1))
}

// leave takes the registration back, when the seat has ended.
func (s *seat) leave() {
	s.r.mu.Lock()
	p, expires, paused := s.point, s.held.expires, s.r.paused
	s.r.mu.Unlock()
	if paused || !time.Now().Before(expires) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := s.r.client.Unregister(ctx, p, s.ns); err != nil && s.r.cfg.OnFailure != nil {
		s.r.cfg.OnFailure(p, s.ns, err)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

var _ Registerer = (*Client)(nil)
