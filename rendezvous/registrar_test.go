package rendezvous_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/rendezvous"
)

// scene is a registrar among points that only exist in the test.
type scene struct {
	*rendezvous.Registrar
	faithful
	mu     sync.Mutex
	points []peer.ID
	addrs  []ma.Multiaddr
}

func stage(t *testing.T, points int, f func(t *testing.T, s *scene)) {
	p2ptest.Bubble(t, func(t *testing.T) {
		began = time.Now()
		s := &scene{addrs: addrs("/ip4/20.0.0.9/tcp/1")}
		for i := range points {
			s.points = append(s.points, peer.ID(fmt.Sprintf("point %d", i)))
		}
		s.Registrar = rendezvous.NewRegistrar(&s.faithful, rendezvous.RegistrarConfig{
			Points: func() []peer.ID { s.mu.Lock(); defer s.mu.Unlock(); return s.points },
			Addrs:  func() []ma.Multiaddr { s.mu.Lock(); defer s.mu.Unlock(); return s.addrs },
		})
		defer s.Close()
		f(t, s)
	})
}

// to changes what the registrar is told.
func (s *scene) to(points []peer.ID, addrs []ma.Multiaddr) {
	s.mu.Lock()
	s.points, s.addrs = points, addrs
	s.mu.Unlock()
	s.Changed()
	synctest.Wait()
}

// At three points of five, renewed after half to three quarters of the time, and
// taken back in the end.
func TestRegistrar(t *testing.T) {
	stage(t, 5, func(t *testing.T, s *scene) {
		synctest.Wait()
		require.Empty(t, s.take())
		s.SetNamespaces(ns)
		synctest.Wait()
		first := s.take()
		require.Len(t, first, 3)
		at := map[peer.ID]bool{}
		for _, c := range first {
			require.Zero(t, c.at, "at once")
			at[c.point] = true
		}
		require.Len(t, at, 3)
		require.Len(t, s.Registrations(), 3)
		require.Equal(t, began.Add(2*time.Hour), s.Registrations()[0].Expires)

		time.Sleep(time.Hour - time.Second)
		require.Empty(t, s.take())
		time.Sleep(30*time.Minute + 2*time.Second)
		second := s.take()
		require.Len(t, second, 3)
		for _, c := range second {
			require.True(t, at[c.point], "the same points")
		}
		require.NotEqual(t, second[0].at, second[1].at)

		time.Sleep(100 * time.Hour)
		require.InDelta(t, 3*100/1.25, len(s.take()), 45)
		require.Len(t, s.Registrations(), 3)

		s.SetNamespaces(ns, "rs/16/1")
		synctest.Wait()
		require.Len(t, s.take(), 3)
		s.SetNamespaces("rs/16/1")
		synctest.Wait()
		for _, c := range s.take() {
			require.True(t, c.gone && c.ns == ns)
		}
		s.Close()
		gone := s.take()
		require.Len(t, gone, 3)
		for _, c := range gone {
			require.True(t, c.gone && c.ns == "rs/16/1")
		}
		s.Close()
		s.SetNamespaces(ns)
		s.Changed()
		s.Resume()
		synctest.Wait()
		require.Empty(t, s.take())
	})
}

// Changed addresses are registered at once, but not ten times a second; others in
// another order, and none at all, are no change.
func TestAddressesChange(t *testing.T) {
	stage(t, 3, func(t *testing.T, s *scene) {
		points := s.points
		a, b := "/ip4/20.0.0.9/tcp/1", "/ip4/20.0.0.8/tcp/1/p2p/"+idOf(7).String()+"/p2p-circuit"
		s.SetNamespaces(ns)
		time.Sleep(time.Minute)
		require.Len(t, s.take(), 3)
		s.to(points, addrs(a, b))
		for _, c := range s.take() {
			require.Equal(t, time.Minute, c.at)
			require.Equal(t, 2, c.addrs)
		}
		for i := range 100 {
			s.to(points, addrs(fmt.Sprintf("/ip4/20.0.0.9/tcp/%d", 10+i)))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		require.LessOrEqual(t, len(s.take()), 3*3)
		s.to(points, addrs(a, b))
		require.Len(t, s.take(), 3)
		time.Sleep(time.Minute)
		s.to(points, addrs(b, a))
		s.to(points, nil)
		require.Empty(t, s.take())
		time.Sleep(3 * time.Hour)
		require.Empty(t, s.take(), "nothing to register")
		require.Empty(t, s.Registrations())
		s.to(points, addrs(a))
		require.Len(t, s.take(), 3)
		require.Len(t, s.Registrations(), 3)
	})
}

// A point that fails is tried a few times, and then another one; when all do, they
// are tried for ever, ever less often, and at once when the network changes.
func TestPointsFail(t *testing.T) {
	stage(t, 4, func(t *testing.T, s *scene) {
		var mu sync.Mutex
		dead := map[peer.ID]bool{s.points[0]: true, s.points[1]: true, s.points[2]: true}
		die := func(points ...peer.ID) {
			mu.Lock()
			defer mu.Unlock()
			clear(dead)
			for _, p := range points {
				dead[p] = true
			}
		}
		s.register = func(p peer.ID, _ string) (time.Duration, error) {
			mu.Lock()
			defer mu.Unlock()
			if dead[p] {
				return 0, errors.New("no answer")
			}
			return 2 * time.Hour, nil
		}
		s.SetNamespaces(ns)
		time.Sleep(20 * time.Minute)
		require.Len(t, s.Registrations(), 1)
		require.Equal(t, s.points[3], s.Registrations()[0].Point)
		tries := s.take()
		require.Less(t, len(tries), 150)
		time.Sleep(100 * time.Hour)
		tries = s.take()
		require.Greater(t, len(tries), 100, "for ever")
		require.Less(t, len(tries), 100*2*3+100, "now and then")

		die()
		time.Sleep(time.Hour)
		require.Len(t, s.Registrations(), 3)

		die(s.points...)
		time.Sleep(10 * time.Hour)
		require.Empty(t, s.Registrations())
		die()
		s.take()
		s.Changed()
		time.Sleep(2 * time.Second)
		require.Len(t, s.Registrations(), 3)
		require.Len(t, s.take(), 3)
	})
}

// A storm of changes is no storm of requests.
func TestChangedOften(t *testing.T) {
	stage(t, 3, func(t *testing.T, s *scene) {
		s.register = func(peer.ID, string) (time.Duration, error) { return 0, errors.New("no answer") }
		s.SetNamespaces(ns)
		for range 1000 {
			s.Changed()
			s.Renew(s.points[0])
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, len(s.take()), 3*(10+7))
	})
}

// Refusals, each in its way.
func TestPointsRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want int // requests in ten minutes to three points
		hour int // in the two hours afterwards
	}{
		"not a point": {&rendezvous.ExchangeError{Err: rendezvous.ErrUnsupported}, 3, 6},
		"malformed":   {&rendezvous.ExchangeError{Err: rendezvous.ErrMalformed}, 3, 6},
		"namespace":   {&rendezvous.StatusError{Code: 100}, 3, 6},
		"record":      {&rendezvous.StatusError{Code: 101}, 3, 6},
		"ttl":         {&rendezvous.StatusError{Code: 102}, 3, 6},
		"unwelcome":   {&rendezvous.StatusError{Code: 200}, 3, 6},
		"full":        {&rendezvous.StatusError{Code: 400, RetryAfter: 5 * time.Minute}, 6, 3 * 24},
	} {
		stage(t, 3, func(t *testing.T, s *scene) {
			s.register = func(peer.ID, string) (time.Duration, error) { return 0, c.err }
			s.SetNamespaces(ns)
			time.Sleep(10*time.Minute - time.Second)
			require.Len(t, s.take(), c.want, name)
			time.Sleep(2 * time.Hour)
			n := len(s.take())
			require.Greater(t, n, 0, name)
			require.LessOrEqual(t, n, c.hour, name)
		})
	}
}

// A point that grants a second isn't asked every second.
func TestShortGrants(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Second} {
		stage(t, 1, func(t *testing.T, s *scene) {
			s.register = func(peer.ID, string) (time.Duration, error) { return d, nil }
			s.SetNamespaces(ns)
			time.Sleep(time.Hour)
			require.InDelta(t, 180, len(s.take()), 2)
		})
	}
}

// Points come and go.
func TestPointsChange(t *testing.T) {
	stage(t, 0, func(t *testing.T, s *scene) {
		a := s.addrs
		s.SetNamespaces(ns)
		time.Sleep(time.Hour)
		require.Empty(t, s.take())
		s.to([]peer.ID{"a"}, a)
		require.Len(t, s.take(), 1)
		s.to([]peer.ID{"a", "b", "c", "d"}, a)
		require.Len(t, s.take(), 2)
		time.Sleep(time.Minute)
		kept := s.Registrations()
		s.to([]peer.ID{kept[0].Point, kept[2].Point, "e"}, a)
		require.Len(t, s.take(), 1)
		require.Equal(t, peer.ID("e"), s.Registrations()[2].Point)
		// One that nobody was told of is found within a quarter of an hour.
		s.to([]peer.ID{"a"}, a)
		s.mu.Lock()
		s.points = []peer.ID{"a", "f", "g"}
		s.mu.Unlock()
		time.Sleep(15 * time.Minute)
		require.Len(t, s.Registrations(), 3)
	})
}

// A point that was restarted is registered with again, the others are not.
func TestRenew(t *testing.T) {
	stage(t, 3, func(t *testing.T, s *scene) {
		s.SetNamespaces(ns, "rs/16/1")
		time.Sleep(time.Minute)
		require.Len(t, s.take(), 6)
		s.Renew(s.points[1])
		synctest.Wait()
		got := s.take()
		require.Len(t, got, 2)
		for _, c := range got {
			require.Equal(t, s.points[1], c.point)
		}
	})
}

// While paused there are no requests, and running ones end; afterwards what is due
// is done at once.
func TestPause(t *testing.T) {
	stage(t, 3, func(t *testing.T, s *scene) {
		s.Pause()
		s.SetNamespaces(ns)
		time.Sleep(time.Hour)
		require.Empty(t, s.take())
		s.Resume()
		synctest.Wait()
		require.Len(t, s.take(), 3)
		s.Pause()
		s.Pause()
		s.Changed()
		s.Renew(s.points[0])
		time.Sleep(10 * time.Hour)
		require.Empty(t, s.take())
		require.Empty(t, s.Registrations())
		s.Resume()
		s.Resume()
		synctest.Wait()
		require.Len(t, s.take(), 3)
		require.Len(t, s.Registrations(), 3)
		s.Pause()
		s.Close()
		require.Empty(t, s.take(), "not even to take leave")
	})
}

// stuck answers when its context ends.
type stuck struct{ faithful }

func (s *stuck) Register(ctx context.Context, p peer.ID, ns string, a []ma.Multiaddr, ttl time.Duration) (time.Duration, error) {
	s.faithful.Register(ctx, p, ns, a, ttl)
	<-ctx.Done()
	return 0, ctx.Err()
}

// Nothing that is under way keeps Pause or Close, and it counts for nothing.
func TestUnderWay(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		began = time.Now()
		var s stuck
		told := 0
		r := rendezvous.NewRegistrar(&s, rendezvous.RegistrarConfig{
			Points:    func() []peer.ID { return []peer.ID{"a"} },
			Addrs:     func() []ma.Multiaddr { return addrs("/ip4/20.0.0.9/tcp/1") },
			OnFailure: func(peer.ID, string, error) { told++ },
		})
		defer r.Close()
		r.SetNamespaces(ns)
		synctest.Wait()
		require.Len(t, s.take(), 1)
		for range 20 {
			r.Pause()
			synctest.Wait()
			r.Resume()
			time.Sleep(time.Second)
			synctest.Wait()
			require.Len(t, s.take(), 1)
		}
		r.SetNamespaces()
		synctest.Wait()
		r.SetNamespaces(ns)
		synctest.Wait()
		require.Len(t, s.take(), 1)
		require.NoError(t, r.Close())
		require.Zero(t, told)
	})
}
