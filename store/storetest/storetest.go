// Package storetest tells whether an archive keeps what [store.Archive] promises.
// Every archive passes [Run]; it is for third parties' archives too:
//
//	func TestArchive(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) storetest.Place {
//			dir := t.TempDir()
//			return storetest.Place{Open: func(c storetest.Config) (store.Archive, error) {
//				return mine.Open(dir, mine.Config{Policy: c.Policy, Now: c.Now})
//			}}
//		})
//	}
//
// [Model] is an archive in memory, which other packages' tests may use.
//
// The suite owns the clock and never sleeps. What it can't show is what happens
// when a process or a machine dies: that needs processes to kill.
package storetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/store"
)

// Config is how an archive is to be opened. It must prune when it is told to and
// never by itself.
type Config struct {
	Policy store.Policy
	// Now is the archive's only clock. It may jump, never back.
	Now func() time.Time
}

// Place is where an archive is kept: a file, a database.
type Place struct {
	// Open opens an archive on what this place holds: nothing at first, then what
	// earlier archives have left. The suite closes what it opens.
	Open func(c Config) (store.Archive, error)
	// Shared says that several archives may be open here at a time, as those of
	// several nodes on one database are. Otherwise the suite closes one before
	// it opens the next.
	Shared bool
}

// Run puts archives to the test. Each test has its own place, which must be
// empty; what it leaves behind may go at the end of the test it is given.
func Run(t *testing.T, place func(t testing.TB) Place) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(newEnv(t, place)) })
	}
}

// check is one test of the suite.
type check struct {
	name string
	run  func(*env)
}

// checks are all tests, the plain before the intricate.
var checks = []check{
	{"RoundTrip", roundTrip},
	{"Reopen", reopen},
	{"PutTwice", putTwice},
	{"PutTogether", putTogether},
	{"PutAndFind", putAndFind},
	{"PutBack", putBack},
	{"Refuse", refuse},
	{"OneHash", oneHash},
	{"Order", order},
	{"Pages", pages},
	{"Limits", limits},
	{"MaxBytes", maxBytes},
	{"TimeBounds", timeBounds},
	{"Filters", filters},
	{"ManyTopics", manyTopics},
	{"WrongQuestions", wrongQuestions},
	{"AnyCursor", anyCursor},
	{"UnknownCursor", unknownCursor},
	{"ExpiredCursor", expiredCursor},
	{"ForgottenCursor", forgottenCursor},
	{"Retention", retention},
	{"AgeBound", ageBound},
	{"SameTime", sameTime},
	{"Gaps", gaps},
	{"PolicyInForce", policyInForce},
	{"UnderFire", underFire},
	{"BetweenPages", betweenPages},
	{"SlowReader", slowReader},
	{"Marks", marks},
	{"Stats", stats},
	{"Cancelled", cancelled},
	{"Closed", closed},
	{"Closing", closing},
	{"Random", random},
}

// patience is how long a test may take. It only ends what hangs.
const patience = 2 * time.Minute

// env is what one test of the suite works with.
type env struct {
	testing.TB
	ctx      context.Context
	newPlace func(t testing.TB) Place
	place    Place
	clock    *clock
	made     int // messages, see message
}

func newEnv(t testing.TB, place func(t testing.TB) Place) *env {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return &env{TB: t, ctx: ctx, newPlace: place, place: place(t), clock: newClock()}
}

// another is a test of the same kind in another place, with its own time.
func (e *env) another() *env { return newEnv(e.TB, e.newPlace) }

// open opens an archive here, to be closed at the end of the test at the latest.
func (e *env) open(p store.Policy) store.Archive {
	e.Helper()
	a, err := e.place.Open(Config{Policy: p, Now: e.clock.Now})
	require.NoError(e, err)
	e.Cleanup(func() {
		if err := a.Close(); err != nil {
			e.Errorf("closing: %v", err)
		}
	})
	return a
}

// reopen closes an archive and opens the next one on the same data.
func (e *env) reopen(a store.Archive, p store.Policy) store.Archive {
	e.Helper()
	require.NoError(e, a.Close())
	return e.open(p)
}

// clock is a clock that is set by hand.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(time.Date(2026, 3, 1, 11, 59, 30, 123456789, time.UTC).UnixNano())
	return c
}

// Now is the time.
func (c *clock) Now() time.Time { return time.Unix(0, c.ns.Load()).UTC() }

func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }
