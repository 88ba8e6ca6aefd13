package postgres

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How long the server may be silent. A statement in flight and nothing heard for
// silence: it is asked, on a connection kept for that. Nothing heard for lifeless
// since the last answer on any connection: it is away. Queries have to fail
// within a second of it.
const (
	silence  = 200 * time.Millisecond
	lifeless = 750 * time.Millisecond
	// leastProbe is what a probe gets at least, though it begins late.
	leastProbe = 300 * time.Millisecond
	// probeEvery and probeFor are for a server that is away.
	probeEvery = 250 * time.Millisecond
	probeFor   = time.Second
	// openFor is for the first try, dialFor bounds the making of a connection.
	openFor = 5 * time.Second
	dialFor = 5 * time.Second
	// prepareFor bounds the migration when the server is reached first.
	prepareFor = time.Minute
)

var (
	errSilent = errors.New("the database doesn't answer")
	errAway   = errors.New("the database is away")
)

// link knows whether the server answers, and ends what is under way when it
// doesn't. While nothing is under way, it does nothing.
type link struct {
	config  *pgx.ConnConfig
	before  func(context.Context, *pgx.ConnConfig) error
	prepare func(context.Context, *pgx.Conn) error // what a server just reached needs
	risen   func()                                 // before the first statement of an epoch
	health  *health

	probeConn *pgx.Conn // of rise and watch, which don't overlap

	mu       sync.Mutex
	up       bool
	closed   bool
	epoch    context.Context // ends when the server is away
	end      context.CancelCauseFunc
	changed  chan struct{} // closed when up changes
	inflight int
	heard    time.Time     // the last sign of life
	asked    chan struct{} // closed after the next probe; nil: nobody asks
	conns    map[net.Conn]struct{}
	kick     chan struct{}
}

func newLink(base *pgxpool.Config, prepare func(context.Context, *pgx.Conn) error, risen func(), h *health) *link {
	l := &link{
		before:  base.BeforeConnect,
		prepare: prepare,
		risen:   risen,
		health:  h,
		changed: make(chan struct{}),
		conns:   make(map[net.Conn]struct{}),
		kick:    make(chan struct{}, 1),
	}
	l.config = l.dialling(base.ConnConfig.Copy())
	return l
}

// close ends the link, after watch has returned.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	if l.probeConn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		l.probeConn.Close(ctx)
	}
	l.cut()
}

// statement is something under way.
type statement struct {
	link *link
	stop func() bool
	end  context.CancelFunc
}

// begin begins something under way. The context ends when the server is away.
func (l *link) begin(ctx context.Context) (context.Context, *statement, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up {
		return nil, nil, errAway
	}
	if l.inflight++; l.inflight == 1 {
		l.heard = time.Now()
		l.wake()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.epoch, func() { cancel(errAway) })
	return ctx, &statement{l, stop, func() { cancel(nil) }}, nil
}

// over ends it, with what came of it.
func (s *statement) over(err error) {
	s.stop()
	s.end()
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inflight--
	if answered(err) {
		l.heard = time.Now()
	}
}

// wake has watch look again. The lock is held.
func (l *link) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// alive asks whether the server lives, after a connection has broken.
func (l *link) alive(ctx context.Context) bool {
	l.mu.Lock()
	if !l.up {
		l.mu.Unlock()
		return false
	}
	if l.asked == nil {
		l.asked = make(chan struct{})
		l.wake()
	}
	asked := l.asked
	l.mu.Unlock()
	select {
	case <-asked:
	case <-ctx.Done():
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// lose has the server be reached anew, because of what it said.
func (l *link) lose(err error) {
	l.mu.Lock()
	l.setUp(false, err)
	l.wake()
	l.mu.Unlock()
	l.cut()
}

// await waits until the server answers.
func (l *link) await(ctx context.Context) error {
	for {
		l.mu.Lock()
		up, changed := l.up, l.changed
		l.mu.Unlock()
		if up {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch keeps an eye on the server until ctx ends.
func (l *link) watch(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		l.mu.Lock()
		up, asked, wait := l.up, l.asked, l.nextProbe()
		l.mu.Unlock()
		switch {
		case !up:
			if l.rise(ctx, probeFor) == nil {
				continue
			}
			wait = probeEvery
		case wait <= 0:
			l.check(ctx, asked)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.kick:
		}
	}
}

// nextProbe says when the server is to be asked. The lock is held.
func (l *link) nextProbe() time.Duration {
	switch {
	case l.asked != nil:
		return 0
	case l.inflight > 0:
		return silence - time.Since(l.heard)
	}
	return time.Hour
}

// check asks the server whether it lives, and believes any other sign of life.
func (l *link) check(ctx context.Context, asked chan struct{}) {
	began := time.Now()
	l.mu.Lock()
	deadline := l.heard.Add(lifeless)
	l.mu.Unlock()
	if least := began.Add(leastProbe); deadline.Before(least) {
		deadline = least
	}
	probe, cancel := context.WithDeadline(context.WithValue(ctx, probing{}, true), deadline)
	err := l.probe(probe)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) {
		err = errSilent
	}
	l.mu.Lock()
	switch {
	case ctx.Err() != nil: // closing, not silent
	case err == nil:
		l.heard = time.Now()
	case !l.heard.After(began):
		l.setUp(false, err)
		defer l.cut()
	}
	if l.asked == asked && asked != nil {
		close(asked)
		l.asked = nil
	}
	l.mu.Unlock()
}

// setUp changes the state. The lock is held.
func (l *link) setUp(up bool, err error) {
	if l.up == up {
		return
	}
	l.up = up
	close(l.changed)
	l.changed = make(chan struct{})
	if up {
		l.epoch, l.end = context.WithCancelCause(context.Background())
		l.heard = time.Now()
		l.health.linkUp()
		return
	}
	l.health.linkDown(err)
	l.end(errAway)
	if l.asked != nil {
		close(l.asked)
		l.asked = nil
	}
}

// rise tries once to reach a server that is away.
func (l *link) rise(ctx context.Context, patience time.Duration) error {
	probe, cancel := context.WithTimeout(context.WithValue(ctx, probing{}, true), patience)
	err := l.probe(probe)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = errSilent
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithValue(ctx, probing{}, true), prepareFor)
		err = l.prepare(ctx, l.probeConn)
		cancel()
	}
	if err != nil {
		if ctx.Err() == nil {
			l.health.linkDown(err)
		}
		return err
	}
	l.risen()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setUp(true, nil)
	return nil
}

// probe asks the server for a sign of life. A connection that broke says nothing
// about the server, so another is made.
func (l *link) probe(ctx context.Context) error {
	if l.probeConn != nil {
		if _, err := l.probeConn.Exec(ctx, "SELECT 1"); err == nil || ctx.Err() != nil {
			return orOver(ctx, err)
		}
		l.probeConn.Close(ctx)
		l.probeConn = nil
	}
	err := l.connect(ctx)
	for range tries - 1 {
		if sqlState(err) != stateAdminShutdown || ctx.Err() != nil { // somebody ended it
			break
		}
		err = l.connect(ctx)
	}
	return orOver(ctx, err)
}

// connect makes the connection for probes.
func (l *link) connect(ctx context.Context) error {
	config := l.config.Copy()
	if l.before != nil {
		if err := l.before(ctx, config); err != nil {
			return err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, probeSettings); err != nil {
		conn.Close(ctx)
		return err
	}
	l.probeConn = conn
	return nil
}

// orOver is the context's error rather than one that it caused.
func orOver(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
