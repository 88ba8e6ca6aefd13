package simnet

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Config says what a Network is like. The zero value works.
type Config struct {
	// Seed decides where hosts stand and which packets are lost.
	Seed uint64
	// Tick is how finely time is divided. Zero: a millisecond.
	Tick time.Duration
	// Transport is what is added to the bytes written. Zero: TCP.
	Transport Transport
	// Latency is the one-way time between all pairs. Zero: by places on the globe,
	// up to 65 ms for half way around at 2/3 of the speed of light, with detours,
	// and a last mile of 2 to 15 ms at each end; 74 ms on average.
	Latency time.Duration
	// Loss is the share of packets lost, 0 to less than 1.
	Loss float64
}

// Line is a host's access to the network. Rates are in bits a second.
type Line struct {
	Up, Down float64 // zero: without end
	// Buffer is how many bytes may wait for the uplink before writers have to. Zero:
	// 256 KiB.
	Buffer int
}

const (
	halfWay     = 122 * time.Millisecond
	lastMileMin = 2 * time.Millisecond
	lastMileMax = 15 * time.Millisecond
	// resendAfter is how long a sender waits for an acknowledgement beyond a round
	// trip before it repeats a packet.
	resendAfter = 30 * time.Millisecond
)

// Network is a set of hosts. Its methods are safe for concurrent use.
type Network struct {
	cfg   Config
	clock *clock
	split atomic.Bool // somebody is on another side

	mu    sync.RWMutex
	rand  *rand.Rand
	hosts map[peer.ID]*Host
	held  []event // what waits for the end of a split
	epoch int     // counts splits and their ends
}

// New returns an empty network. Its clock begins now.
func New(c Config) *Network {
	if c.Tick <= 0 {
		c.Tick = time.Millisecond
	}
	if c.Transport == (Transport{}) {
		c.Transport = TCP()
	}
	n := &Network{
		cfg: c, clock: newClock(c.Tick), hosts: map[peer.ID]*Host{},
		rand: rand.New(rand.NewPCG(c.Seed, 0x5ea)),
	}
	n.clock.net = n
	return n
}

// Transport is what is added to the bytes written.
func (n *Network) Transport() Transport { return n.cfg.Transport }

// place is where a host stands.
type place struct {
	x, y, z  float64
	lastMile time.Duration
}

func newPlace(r *rand.Rand) place {
	z, angle := 2*r.Float64()-1, 2*math.Pi*r.Float64()
	flat := math.Sqrt(1 - z*z)
	mile := lastMileMin + time.Duration(r.Int64N(int64(lastMileMax-lastMileMin)))
	return place{flat * math.Cos(angle), flat * math.Sin(angle), z, mile}
}

func (n *Network) latency(a, b *Host) time.Duration {
	if n.cfg.Latency > 0 {
		return n.cfg.Latency
	}
	cos := a.place.x*b.place.x + a.place.y*b.place.y + a.place.z*b.place.z
	way := math.Acos(min(1, max(-1, cos))) / math.Pi
	return a.place.lastMile + b.place.lastMile + time.Duration(way*float64(halfWay))
}

// lost says how many of so many packets get lost, repetitions included.
func (n *Network) lost(packets int) (lost int) {
	if n.cfg.Loss <= 0 {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for range packets {
		for n.rand.Float64() < n.cfg.Loss {
			lost++
		}
	}
	return lost
}

// Kill ends a host without a word: nothing goes in or out any more, what is on its
// way to it vanishes. Its peers close their connections when notice has passed, give
// or take a third, as they do when keep-alives stay without answer.
func (n *Network) Kill(h *Host, notice time.Duration) {
	if h.dead.Swap(true) {
		return
	}
	for _, c := range h.allConns() {
		n.mu.Lock()
		d := notice + time.Duration((n.rand.Float64()-0.5)*2/3*float64(notice))
		n.mu.Unlock()
		n.clock.after(d, c.far.end)
	}
}

// Split parts the network: between hosts of which side says different things nothing
// passes until Heal. Connections across that last are cut after notice; before that,
// what was sent waits. New ones can't be made.
func (n *Network) Split(side func(*Host) int, notice time.Duration) {
	n.mu.Lock()
	n.epoch++
	epoch := n.epoch
	var across []*conn
	for _, h := range n.hosts {
		h.side.Store(int32(side(h)))
	}
	n.split.Store(true)
	for _, h := range n.hosts {
		for _, c := range h.allConns() {
			if n.apart(h, c.remote) {
				across = append(across, c)
			}
		}
	}
	n.mu.Unlock()
	n.clock.after(notice, func() {
		n.mu.Lock()
		over := n.epoch != epoch
		if !over {
			n.held = nil
		}
		n.mu.Unlock()
		if !over {
			for _, c := range across {
				c.end()
			}
		}
	})
}

// Heal ends a Split. What waited arrives within a second, as senders try again.
func (n *Network) Heal() {
	n.mu.Lock()
	n.epoch++
	held := n.held
	n.held = nil
	n.split.Store(false)
	now := n.clock.now()
	wait := map[*conn]time.Duration{}
	for i := range held {
		c := held[i].end
		if _, ok := wait[c]; !ok {
			wait[c] = time.Duration(n.rand.Int64N(int64(time.Second)))
		}
		held[i].at = now + wait[c]
	}
	n.mu.Unlock()
	for _, e := range held {
		n.clock.add(e)
	}
}

func (n *Network) apart(a, b *Host) bool {
	return n.split.Load() && a.side.Load() != b.side.Load()
}

// hold keeps what can't arrive for the end of the split, or returns false.
func (n *Network) hold(e event) bool {
	if !n.apart(e.end.local, e.end.remote) {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.split.Load() {
		return false
	}
	n.held = append(n.held, e)
	return true
}

// Hosts returns all hosts, dead ones included, in the order in which they were made.
func (n *Network) Hosts() []*Host {
	n.mu.RLock()
	defer n.mu.RUnlock()
	all := make([]*Host, 0, len(n.hosts))
	for _, h := range n.hosts {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *Host) int { return a.Number - b.Number })
	return all
}

func (n *Network) host(p peer.ID) *Host {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.hosts[p]
}
