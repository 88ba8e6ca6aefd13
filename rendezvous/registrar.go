package rendezvous

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Registerer is what a [Registrar] needs of a [Client].
type Registerer interface {
	Register(ctx context.Context, p peer.ID, ns string, addrs []ma.Multiaddr, ttl time.Duration) (time.Duration, error)
	Unregister(ctx context.Context, p peer.ID, ns string) error
}

// DefaultCopies is at how many points a registration is kept.
const DefaultCopies = 3

// RegistrarConfig configures a [Registrar]. Points and Addrs must be set.
type RegistrarConfig struct {
	// Points returns the peers that may be rendezvous points, in any order. A
	// registration is kept at some of them, picked at random; one that isn't
	// returned any more is left for another. It must be quick.
	Points func() []peer.ID
	// Addrs returns the addresses to register, the most important first. While there
	// are none nothing is registered, and nothing taken back. It must be quick.
	Addrs func() []ma.Multiaddr
	// Copies is at how many points each namespace is registered. 0: DefaultCopies.
	Copies int
	// TTL is how long registrations are to live. 0: DefaultTTL.
	TTL time.Duration
	// OnFailure, if set, is told of every request that failed. It must be quick and
	// may be called from many goroutines.
	OnFailure func(p peer.ID, ns string, err error)
}

// Registration is a registration at a point.
type Registration struct {
	Namespace string
	Point     peer.ID
	Expires   time.Time
}

// When a Registrar tries again.
const (
	// firstRetry is after the first failure at a point; each time it is twice as
	// long. After so many tries it is somebody else's turn; a point that had its tries
	// before has one.
	firstRetry = 200 * time.Millisecond
	tries      = 7
	// leastRest is between two requests of one registration, whoever asks for them.
	leastRest = time.Second
	// leastRenewal is how long a registration is left alone, however short it lives.
	leastRenewal = 20 * time.Second
	// A point that failed is left alone for firstCooling, each time for twice as long.
	firstCooling = time.Minute
	maxCooling   = 30 * time.Minute
	// refusedCooling is for one that doesn't want the registration.
	refusedCooling = time.Hour
	// With too few points it is looked for others, ever less often.
	firstLook = time.Minute
	maxLook   = 15 * time.Minute
	// changeRest is between two registrations because of changed addresses.
	changeRest = 5 * time.Second
	// leaveTimeout is for taking a registration back.
	leaveTimeout = 2 * time.Second
)

// Registrar keeps the node registered in some namespaces, each at several points. It
// renews a registration when half to three quarters of its time have passed; it tries
// for ever, at growing intervals and at other points.
type Registrar struct {
	client Registerer
	cfg    RegistrarConfig
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	paused  bool
	active  context.Context // of requests; ends with Pause and Close
	halt    context.CancelFunc
	seats   map[string][]*seat
	cooling map[place]cooling
}

// place is a point, as far as one namespace is concerned. One without a namespace
// stands for all.
type place struct {
	point peer.ID
	ns    string
}

type cooling struct {
	until time.Time
	next  time.Duration
}

// NewRegistrar returns a registrar without namespaces.
func NewRegistrar(c Registerer, cfg RegistrarConfig) *Registrar {
	cfg.Copies = cmp.Or(max(cfg.Copies, 0), DefaultCopies)
	cfg.TTL = cmp.Or(max(cfg.TTL, 0), DefaultTTL)
	r := &Registrar{client: c, cfg: cfg, seats: make(map[string][]*seat), cooling: make(map[place]cooling)}
	r.active, r.halt = context.WithCancel(context.Background())
	return r
}

// SetNamespaces says where to be registered from now on. What was given before and
// isn't now is taken back.
func (r *Registrar) SetNamespaces(namespaces ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	for ns, seats := range r.seats {
		if !slices.Contains(namespaces, ns) {
			for _, s := range seats {
				s.stop()
			}
			delete(r.seats, ns)
			for at := range r.cooling {
				if at.ns == ns {
					delete(r.cooling, at)
				}
			}
		}
	}
	for _, ns := range namespaces {
		if r.seats[ns] != nil {
			continue
		}
		seats := make([]*seat, r.cfg.Copies)
		for i := range seats {
			s := &seat{r: r, ns: ns, wake: make(chan struct{}, 1)}
			s.ctx, s.stop = context.WithCancel(context.Background())
			seats[i] = s
			r.wg.Go(s.run)
		}
		r.seats[ns] = seats
	}
}

// Changed says that Addrs or Points return something else, or that the network is
// another one: what differs is registered at once, and what failed is tried again.
// Calling it in vain costs nothing.
func (r *Registrar) Changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for at, c := range r.cooling {
		if at.ns == "" {
			c.until = time.Time{}
			r.cooling[at] = c
		}
	}
	r.each(func(s *seat) {
		s.look = 0
		s.soon()
	})
}

// Renew says that p may have forgotten what it knew, after a restart, say: what is
// registered there is registered again at once.
func (r *Registrar) Renew(p peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.cooling, place{point: p})
	r.each(func(s *seat) {
		if s.point == p {
			s.held.renew = time.Time{}
			s.soon()
		}
	})
}

// Pause stops all requests until Resume. Registrations live on while they may.
func (r *Registrar) Pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.paused && !r.closed {
		r.paused = true
		r.halt()
	}
}

// Resume goes on: what is due by now is done at once.
func (r *Registrar) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused && !r.closed {
		r.paused = false
		r.active, r.halt = context.WithCancel(context.Background())
		r.each((*seat).soon)
	}
}

// Registrations returns where the node is registered, by namespace and point.
func (r *Registrar) Registrations() (all []Registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for ns, seats := range r.seats {
		for _, s := range seats {
			if now.Before(s.held.expires) {
				all = append(all, Registration{ns, s.point, s.held.expires})
			}
		}
	}
	slices.SortFunc(all, func(a, b Registration) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Point, b.Point))
	})
	return all
}

// Close takes all registrations back, unless paused, which lasts two seconds at most,
// and ends. It is idempotent. The error is always nil.
func (r *Registrar) Close() error {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		r.halt()
		r.each(func(s *seat) { s.stop() })
	}
	r.mu.Unlock()
	r.wg.Wait()
	return nil
}

// each changes every seat and wakes it; mu is held.
func (r *Registrar) each(change func(s *seat)) {
	for _, seats := range r.seats {
		for _, s := range seats {
			change(s)
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
	}
}

// fingerprint is the same for the same addresses.
func fingerprint(addrs []ma.Multiaddr) string {
	all := make([]string, 0, len(addrs))
	for _, a := range addrs {
		b := a.Bytes()
		all = append(all, string([]byte{byte(len(b) >> 8), byte(len(b))})+string(b))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}
