package rendezvous

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

// Defaults of [PointConfig].
const (
	DefaultMaxRegistrations = 16384
	DefaultMaxPerPeer       = 128
	DefaultMaxPerAddress    = 1024
	DefaultRate             = 2.0  // requests a second of one peer
	DefaultBurst            = 64   // requests
	DefaultAddressRate      = 50.0 // requests a second of one address
	DefaultAddressBurst     = 2048 // requests
	DefaultSaveEvery        = 5 * time.Minute
)

// PointConfig configures a [Point]. The zero value has the defaults.
type PointConfig struct {
	// Serves says which namespaces are served; others are refused with
	// StatusInvalidNamespace. What it is asked about has 1 to MaxNamespace bytes of
	// valid UTF-8. It must be quick. Nil: those of shards, of any cluster.
	Serves func(ns string) bool
	// Admit, if set, says who may register where; others are refused with
	// StatusNotAuthorized. It must be quick.
	Admit func(p peer.ID, ns string) bool

	// MaxRegistrations is how many registrations there are at most: of everybody,
	// of one peer, and of one address, which is an IPv4 address or an IPv6 /56. More
	// are refused with StatusUnavailable, but a full point makes room for those
	// whose address has less than others. With its record, which has 3 KiB at most
	// and 2 KiB in the mean when the point is full, one takes 0.8 KB as a rule. 0: the
	// defaults.
	MaxRegistrations, MaxPerPeer, MaxPerAddress int
	// MinTTL and MaxTTL are the shortest and the longest time that is granted;
	// others are refused with StatusInvalidTTL. 0: the package's MinTTL and MaxTTL.
	MinTTL, MaxTTL time.Duration

	// Rate is how many requests a second a peer may make in the long run, and Burst
	// how many at once; more are answered with StatusUnavailable. AddressRate and
	// AddressBurst are the same for all peers of one address. 0: the defaults. A
	// negative rate is no limit.
	Rate         float64
	Burst        int
	AddressRate  float64
	AddressBurst int

	// Snapshots, if set, keeps registrations beyond a restart: they are read by
	// NewPoint, and written every SaveEvery after a change and by Close. Whoever
	// registered since the last time registers again in due course.
	Snapshots Snapshots
	// SaveEvery is how often. 0: DefaultSaveEvery.
	SaveEvery time.Duration

	// OnFailure, if set, is told of every request that got no answer, and why; and,
	// without a peer, of snapshots that can't be read or written. It must be quick
	// and may be called from many goroutines.
	OnFailure func(from peer.ID, err error)
}

func (c PointConfig) withDefaults() PointConfig {
	if c.Serves == nil {
		c.Serves = func(ns string) bool {
			_, err := ParseNamespace(ns)
			return err == nil
		}
	}
	c.MaxRegistrations = cmp.Or(max(c.MaxRegistrations, 0), DefaultMaxRegistrations)
	c.MaxPerPeer = cmp.Or(max(c.MaxPerPeer, 0), DefaultMaxPerPeer)
	c.MaxPerAddress = cmp.Or(max(c.MaxPerAddress, 0), DefaultMaxPerAddress)
	c.MinTTL = cmp.Or(max(c.MinTTL, 0), MinTTL)
	c.MaxTTL = min(cmp.Or(max(c.MaxTTL, 0), MaxTTL), MaxTTL)
	c.Rate = cmp.Or(c.Rate, DefaultRate)
	c.Burst = cmp.Or(max(c.Burst, 0), DefaultBurst)
	c.AddressRate = cmp.Or(c.AddressRate, DefaultAddressRate)
	c.AddressBurst = cmp.Or(max(c.AddressBurst, 0), DefaultAddressBurst)
	c.SaveEvery = cmp.Or(max(c.SaveEvery, 0), DefaultSaveEvery)
	return c
}

const (
	// pointTotal is for the whole exchange.
	pointTotal = 10 * time.Second
	// stallLimit is how long an answer waits for one who doesn't take it.
	stallLimit = 5 * time.Second
	// exchanges is how many run at once, and streams how many with one peer.
	exchanges = 512
	streams   = 8
	// maxAnswer is how much of an answer there is at once, in bytes. The cookie
	// leads to the rest.
	maxAnswer = 128 << 10
	// comeBack is when somebody for whom there was no room may try again.
	comeBack = 5 * time.Minute
)

// PointStats counts what a point holds and has done.
type PointStats struct {
	// Registrations, Namespaces, Peers and Addresses are what there is now.
	Registrations, Namespaces, Peers, Addresses int
	// RecordBytes is how much the records take, in bytes.
	RecordBytes int
	// Registered, Renewed, Unregistered, Expired and Displaced are what became of
	// registrations; a renewed one may have other addresses. A displaced one made
	// room for another.
	Registered, Renewed, Unregistered, Expired, Displaced uint64
	// Discovered counts the requests to discover that were granted, and Shown the
	// peers in their answers.
	Discovered, Shown uint64
	// Refused counts refusals by status. Those never given are absent.
	Refused map[StatusCode]uint64
	// Failed counts the exchanges that came to nothing: not read to their end,
	// answer not sent, refused unread, no request.
	Failed uint64
	// Saved counts the snapshots written, SaveFailed what went wrong with others.
	Saved, SaveFailed uint64
}

// Point serves registrations until it is closed.
type Point struct {
	host    host.Host
	cfg     PointConfig
	peers   *reqresp.Budget[peer.ID]
	addrs   *reqresp.Budget[string]
	cookies *cookies

	exchanges *reqresp.Server

	mu    sync.Mutex
	table *table
	dirty bool
	stats PointStats // what is counted under mu

	refusals                  [len(statuses)]atomic.Uint64
	failures, saved, saveFail atomic.Uint64

	stop   context.CancelFunc
	saving sync.WaitGroup
	once   sync.Once
}

// NewPoint serves on h from now on.
func NewPoint(h host.Host, cfg PointConfig) *Point {
	cfg = cfg.withDefaults()
	p := &Point{
		host:    h,
		cfg:     cfg,
		peers:   reqresp.NewBudget[peer.ID](cfg.Rate, cfg.Burst, maxKeys),
		addrs:   reqresp.NewBudget[string](cfg.AddressRate, cfg.AddressBurst, maxKeys),
		cookies: newCookies(),
		table:   newTable(limits{cfg.MaxRegistrations, cfg.MaxPerPeer, cfg.MaxPerAddress}),
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	if cfg.Snapshots != nil {
		p.load()
		p.saving.Go(func() { p.saveEvery(ctx) })
	}
	p.exchanges = reqresp.Serve(h, ID, reqresp.Config{
		Service:     service,
		MaxRequest:  maxRequest,
		MaxResponse: maxAnswer + perPeer + envelope,
		Total:       pointTotal,
		Stall:       stallLimit,
		Concurrency: exchanges,
		PerPeer:     streams,
		OnFailure:   p.failed,
		Refuse:      p.refuse,
	}, p.handle)
	return p
}

// Close ends running exchanges, waits for them, and writes a last snapshot. It is
// idempotent. The error is that of the snapshot.
func (p *Point) Close() (err error) {
	p.once.Do(func() {
		p.exchanges.Close()
		p.stop()
		p.saving.Wait()
		if p.cfg.Snapshots != nil {
			err = p.save()
		}
	})
	return err
}

// Stats returns what the point holds and has done so far.
func (p *Point) Stats() PointStats {
	p.mu.Lock()
	p.expire(time.Now())
	s := p.stats
	s.Registrations = p.table.all.live
	s.Namespaces = len(p.table.spaces)
	s.Peers = len(p.table.peers)
	s.Addresses = len(p.table.addrs)
	s.RecordBytes = p.table.recordBytes()
	s.Displaced = p.table.gone
	p.mu.Unlock()
	s.Refused = make(map[StatusCode]uint64)
	for i := range p.refusals {
		if n := p.refusals[i].Load(); n > 0 {
			s.Refused[statuses[i].code] = n
		}
	}
	s.Failed, s.Saved, s.SaveFailed = p.failures.Load(), p.saved.Load(), p.saveFail.Load()
	return s
}

// expire removes what is past its time; mu is held.
func (p *Point) expire(now time.Time) {
	if n := p.table.expire(now); n > 0 {
		p.stats.Expired += uint64(n)
		p.dirty = true
	}
}

// errSilent ends an exchange that has no response.
var errSilent = errors.New("rendezvous: no response")

func (p *Point) handle(_ context.Context, from peer.ID, b []byte) ([]byte, error) {
	now := time.Now()
	addr := addressOf(p.host, from)
	wait, ok := p.afford(from, addr, now)
	q, err := decodeRequest(b)
	if err != nil {
		return nil, err // of what kind an answer would be isn't known
	}
	var r response
	switch {
	case q.kind == kindUnregister:
		if ok {
			p.unregister(from, string(q.reg.ns))
		}
		return nil, errSilent
	case !ok:
		r = p.apologise(StatusUnavailable, "too many requests", wait)
	case q.kind == kindRegister:
		r = p.register(from, addr, q.reg, now)
	default:
		r = p.discover(q, now)
	}
	r.kind = q.kind + 1
	return appendResponse(nil, r), nil
}

// maxKeys is how many peers, and how many addresses, the budgets tell apart.
const maxKeys = 16384

// afford takes a token of the peer's and one of its address's.
func (p *Point) afford(from peer.ID, addr string, now time.Time) (wait time.Duration, ok bool) {
	if wait, ok = p.peers.Take(from, now, 0); ok {
		wait, ok = p.addrs.Take(addr, now, 0)
	}
	return wait, ok
}

func (p *Point) register(from peer.ID, addr string, g register, now time.Time) response {
	ns := string(g.ns)
	if checkNamespace(ns) != nil || !p.cfg.Serves(ns) {
		return p.apologise(StatusInvalidNamespace, "", 0)
	}
	ttl := DefaultTTL
	if g.ttl != 0 {
		if g.ttl < uint64(p.cfg.MinTTL/time.Second) || g.ttl > uint64(p.cfg.MaxTTL/time.Second) {
			return p.apologise(StatusInvalidTTL, "between "+p.cfg.MinTTL.String()+" and "+p.cfg.MaxTTL.String(), 0)
		}
		ttl = toTTL(g.ttl)
	}
	ttl = min(max(ttl, p.cfg.MinTTL), p.cfg.MaxTTL)
	if p.cfg.Admit != nil && !p.cfg.Admit(from, ns) {
		return p.apologise(StatusNotAuthorized, "", 0)
	}
	p.mu.Lock()
	known := p.table.holds(from, g.record)
	p.mu.Unlock()
	if !known {
		switch r, wrong := openRecord(g.record); {
		case wrong != "":
			return p.apologise(StatusInvalidSignedPeerRecord, wrong, 0)
		case r.peer != from:
			return p.apologise(StatusInvalidSignedPeerRecord, "somebody else's", 0)
		}
	}
	switch p.put(from, ns, addr, g.record, now, ttl) {
	case tooManyOfPeer:
		return p.apologise(StatusUnavailable, "too many registrations", comeBack)
	case tooManyOfAddress:
		return p.apologise(StatusUnavailable, "too many registrations of one address", comeBack)
	case full:
		return p.apologise(StatusUnavailable, "full", comeBack)
	}
	return response{ttl: uint64(ttl / time.Second)}
}

func (p *Point) put(from peer.ID, ns, addr string, record []byte, now time.Time, ttl time.Duration) outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(now)
	// The request's buffer is longer than the record.
	out := p.table.put(from, ns, addr, append([]byte(nil), record...), now.Add(ttl))
	switch out {
	case added:
		p.stats.Registered++
	case renewed, changed:
		p.stats.Renewed++
	default:
		return out
	}
	p.dirty = true
	return out
}

func (p *Point) unregister(from peer.ID, ns string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table.remove(from, ns) {
		p.stats.Unregistered++
		p.dirty = true
	}
}

func (p *Point) discover(q request, now time.Time) response {
	ns := string(q.reg.ns)
	if ns != "" && (checkNamespace(ns) != nil || !p.cfg.Serves(ns)) {
		return p.apologise(StatusInvalidNamespace, "", 0)
	}
	number, first, ok := p.cookies.number(ns, q.cookie)
	if !ok {
		return p.apologise(StatusInvalidCookie, "", 0)
	}
	n := int(min(cmp.Or(q.limit, MaxPeers), MaxPeers))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire(now)
	var r response
	r.regs, number = p.table.find(ns, number, first, n, now)
	r.cookie = p.cookies.bake(ns, number)
	p.stats.Discovered++
	p.stats.Shown += uint64(len(r.regs))
	return r
}

// find returns registrations of a namespace and the number to go on from.
func (t *table) find(ns string, number uint64, first bool, n int, now time.Time) (out []register, next uint64) {
	x := t.all
	if ns != "" {
		x = t.spaces[ns]
	}
	if x == nil {
		return nil, t.last
	}
	var (
		found []*registration
		more  bool
	)
	if first {
		found = x.sample(n)
		more = len(found) < x.live
	} else {
		found, more = x.walk(number, n)
	}
	size := 0
	for _, r := range found {
		g := register{ns: []byte(r.ns), record: r.record, ttl: uint64(max(r.expires.Sub(now)/time.Second, 1))}
		if size += wire.SizeBytes(drRegistrations, g.size()); size > maxAnswer {
			more = true
			break
		}
		out = append(out, g)
		if !first {
			number = r.number
		}
	}
	if !more {
		number = t.last
	}
	return out, number
}

func (p *Point) apologise(code StatusCode, reason string, wait time.Duration) response {
	p.refusals[code.index()].Add(1)
	return response{status: code, text: words(code, reason, wait)}
}

// refuse answers what handle doesn't get to see. Only a registration can be too long.
func (p *Point) refuse(from peer.ID, b []byte, err error) []byte {
	if b == nil {
		if _, ok := p.afford(from, addressOf(p.host, from), time.Now()); !ok {
			return nil
		}
	}
	var tooLarge *wire.FrameTooLargeError
	if !errors.As(err, &tooLarge) {
		return nil
	}
	r := p.apologise(StatusInvalidSignedPeerRecord, tooLarge.Error(), 0)
	r.kind = kindRegisterResponse
	return appendResponse(nil, r)
}

func (p *Point) failed(from peer.ID, err error) {
	if errors.Is(err, errSilent) {
		return
	}
	p.failures.Add(1)
	if p.cfg.OnFailure != nil {
		p.cfg.OnFailure(from, err)
	}
}
