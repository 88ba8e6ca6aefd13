package waku_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// turn is a mutex that virtual time doesn't wait for.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

func (t turn) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// worldClock is the time that all nodes agree on. It jumps when everybody slept.
type worldClock struct{ settable }

// place is a node that can be restarted where it is.
type place struct {
	w     *faultTown
	cfg   p2ptest.HostConfig
	opts  []waku.Option
	skew  atomic.Int64 // of its clock
	host  host.Host
	node  *waku.Node
	mu    turn // held during a fault
	awake turn // held while the node isn't there, or speaks
	light bool

	// A store's.
	archive *storetest.Model
	dumb    atomic.Bool // its filter service
	deaf    atomic.Bool // its light push service
	away    atomic.Bool // its database

	// A member's.
	member  *waku.Membership
	reading sync.WaitGroup
	hearing sync.Mutex
	heard   map[message.Hash]int
	payload map[string]bool     // heard
	earlier map[uint64]struct{} // what was heard before all that, if that counts
	wrong   []string
}

func (p *place) now() time.Time { return p.w.clock.now().Add(time.Duration(p.skew.Load())) }

// faultTown is a community with stores that serve light members, and members.
type faultTown struct {
	t       *testing.T
	r       *rand.Rand
	net     *p2ptest.Network
	key     *dosguard.PrivateKey
	c       waku.Community
	clock   worldClock
	stores  []*place
	members []*place
	said    atomic.Int64
	quiet   atomic.Bool // nobody is to speak
	log     []string
	logged  sync.Mutex
}

func (w *faultTown) place(i int) *place {
	p := &place{w: w, mu: make(turn, 1), awake: make(turn, 1), heard: map[message.Hash]int{}, payload: map[string]bool{}}
	p.cfg = p2ptest.HostConfig{Key: p2ptest.Key(1000 + i), IP: netip.AddrFrom4([4]byte{21, 0, byte(i), 1}), Port: 4000}
	return p
}

func (p *place) addr() string {
	return fmt.Sprintf("/ip4/%s/tcp/4000/p2p/%s", p.cfg.IP, p.id())
}

func (p *place) id() string {
	if p.host == nil {
		p.host = p.w.net.Host(p.cfg)
	}
	return p.host.ID().String()
}

// up starts the node, again or for the first time.
func (p *place) up() {
	t := p.w.t
	if p.host == nil {
		p.host = p.w.net.Host(p.cfg)
	}
	opts := append([]waku.Option{waku.WithHost(p.host), waku.WithClock(p.now)}, p.opts...)
	if p.archive != nil {
		p.archive = p.archive.Reopen(storetest.Config{Now: p.now})
		opts = append(opts, waku.WithArchive(database{p.archive, &p.away}))
	}
	n, err := waku.New(within(t), opts...)
	require.NoError(t, err)
	p.node = n
	if p.archive != nil {
		join(t, n, p.w.c)
		intercept(t, p.host, filter.SubscribeID, p.unless(&p.dumb))
		intercept(t, p.host, lightpush.ID, p.unless(&p.deaf))
		return
	}
	opt := []waku.JoinOption{waku.SignWith(p.w.key)}
	if p.light {
		opt = append(opt, waku.AsLight())
	}
	p.member = join(t, n, p.w.c, opt...)
	r := subscribe(t, p.member, lobby)
	p.reading.Go(func() { p.read(r) })
}

// database is an archive that may be out of reach.
type database struct {
	store.Archive
	away *atomic.Bool
}

var errAway = fmt.Errorf("%w: the test has it so", store.ErrUnavailable)

func (d database) Put(ctx context.Context, entries []store.Entry) error {
	if d.away.Load() {
		return errAway
	}
	return d.Archive.Put(ctx, entries)
}

func (d database) Query(ctx context.Context, q store.Query) (store.Page, error) {
	if d.away.Load() {
		return store.Page{}, errAway
	}
	return d.Archive.Query(ctx, q)
}

func (p *place) unless(dead *atomic.Bool) func(network.Stream, network.StreamHandler) {
	return func(s network.Stream, next network.StreamHandler) {
		if dead.Load() {
			s.Reset()
			return
		}
		next(s)
	}
}

func (p *place) down() {
	require.NoError(p.w.t, p.node.Close())
	require.NoError(p.w.t, p.host.Close())
	p.host = nil
	p.reading.Wait()
}

func (p *place) restart(d time.Duration) {
	p.awake.Lock()
	defer p.awake.Unlock()
	p.down()
	time.Sleep(d)
	p.up()
}

func (p *place) read(r *waku.Reader) {
	for {
		env, err := r.Next(context.Background())
		var gap *waku.GapError
		switch {
		case errors.As(err, &gap) && !gap.Final:
			continue
		case err != nil:
			if !strings.Contains(err.Error(), "closed") {
				p.hearing.Lock()
				p.wrong = append(p.wrong, err.Error())
				p.hearing.Unlock()
			}
			return
		}
		p.hearing.Lock()
		p.heard[env.Hash]++
		if _, again := p.earlier[brief(env.Hash)]; again {
			p.wrong = append(p.wrong, "again: "+string(env.Message.Payload))
		}
		p.payload[string(env.Message.Payload)] = true
		if !p.w.signed(env.Message) {
			p.wrong = append(p.wrong, "unsigned: "+string(env.Message.Payload))
		}
		p.hearing.Unlock()
	}
}

func brief(h message.Hash) uint64 { return binary.LittleEndian.Uint64(h[:]) }

func (w *faultTown) signed(m *message.Message) bool {
	keys := dosguard.NewRegistry()
	_ = keys.Add(w.key.PublicKey(), time.Time{}, time.Time{})
	return dosguard.NewSigned(dosguard.SignedConfig{Keys: keys}).Verify(town.PubsubTopic(), m, false) == nil
}

// say has a member send a message, if it can.
func (w *faultTown) say() {
	p := w.members[w.pick(len(w.members))]
	if !p.awake.TryLock() {
		return
	}
	defer p.awake.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := p.member.Send(ctx, lobby, fmt.Appendf(nil, "message %d", w.said.Add(1))); err != nil {
		w.note("%s can't send: %v", p.name(), err)
	}
}

func (p *place) name() string {
	for i, x := range p.w.stores {
		if x == p {
			return fmt.Sprintf("store %d", i)
		}
	}
	for i, x := range p.w.members {
		if x == p {
			return fmt.Sprintf("member %d", i)
		}
	}
	return "?"
}

func (w *faultTown) pick(n int) int {
	w.logged.Lock()
	defer w.logged.Unlock()
	return w.r.IntN(n)
}

func (w *faultTown) between(least, most time.Duration) time.Duration {
	w.logged.Lock()
	defer w.logged.Unlock()
	return least + time.Duration(w.r.Int64N(int64(most-least)))
}

func (w *faultTown) note(format string, args ...any) {
	w.logged.Lock()
	defer w.logged.Unlock()
	w.log = append(w.log, fmt.Sprintf("%s "+format, append([]any{time.Now().Format(time.TimeOnly)}, args...)...))
}

// faults are what may happen; each takes its time and undoes itself.
var faults = []struct {
	name string
	do   func(w *faultTown, d time.Duration)
}{
	{"a member is off the network", func(w *faultTown, d time.Duration) {
		p := w.hold(w.members)
		defer p.mu.Unlock()
		w.net.Vanish(p.host)
		time.Sleep(d)
		w.net.Return(p.host)
		if w.pick(2) == 0 {
			p.node.NetworkChanged()
		}
	}},
	{"a member restarts", func(w *faultTown, d time.Duration) {
		p := w.hold(w.members)
		defer p.mu.Unlock()
		p.restart(d)
	}},
	{"a member pauses", func(w *faultTown, d time.Duration) {
		p := w.hold(w.members)
		defer p.mu.Unlock()
		p.node.Pause()
		time.Sleep(d)
		p.node.Resume()
	}},
	{"a member's clock is wrong", func(w *faultTown, d time.Duration) {
		p := w.hold(w.members)
		defer p.mu.Unlock()
		off := w.between(10*time.Minute, 2*time.Hour)
		if w.pick(2) == 0 {
			off = -off
		}
		w.note("%s's clock is wrong by %v", p.name(), off)
		p.skew.Store(int64(off))
		time.Sleep(d)
		p.skew.Store(0)
	}},
	{"a member changes its mode", func(w *faultTown, d time.Duration) {
		p := w.hold(w.members)
		defer p.mu.Unlock()
		mode := waku.ModeLight
		if p.member.Mode() == waku.ModeLight {
			mode = waku.ModeRelay
		}
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		if p.member.Switch(ctx, mode) == nil {
			p.light = mode == waku.ModeLight
		}
	}},
	{"a store is restarted", func(w *faultTown, d time.Duration) {
		p := w.hold(w.stores)
		defer p.mu.Unlock()
		p.restart(d)
	}},
	{"a filter service dies", func(w *faultTown, d time.Duration) {
		p := w.hold(w.stores)
		defer p.mu.Unlock()
		p.dumb.Store(true)
		waku.EvictAll(p.node)
		time.Sleep(d)
		p.dumb.Store(false)
	}},
	{"a light push service dies", func(w *faultTown, d time.Duration) {
		p := w.hold(w.stores)
		defer p.mu.Unlock()
		p.deaf.Store(true)
		time.Sleep(d)
		p.deaf.Store(false)
	}},
	{"a database is away", func(w *faultTown, d time.Duration) {
		p := w.hold(w.stores)
		defer p.mu.Unlock()
		p.away.Store(true)
		time.Sleep(d)
		p.away.Store(false)
	}},
	{"the network splits", func(w *faultTown, d time.Duration) {
		for _, p := range w.all() {
			p.mu.Lock()
			defer p.mu.Unlock()
		}
		var sides [2][]host.Host
		for i, p := range w.all() {
			side := w.pick(2)
			if i < 2 { // a store on either
				side = i
			}
			sides[side] = append(sides[side], p.host)
		}
		w.net.Split(sides[0], sides[1])
		time.Sleep(d)
		w.net.Mend()
	}},
	{"all laptops sleep", func(w *faultTown, d time.Duration) {
		for _, p := range w.all() {
			p.mu.Lock()
			defer p.mu.Unlock()
		}
		w.quiet.Store(true)
		time.Sleep(10 * time.Second)
		slept := w.between(10*time.Second, 8*time.Hour)
		var entries []store.Entry
		for range 1 + w.pick(30) {
			m := &message.Message{ContentTopic: lobby, Payload: fmt.Appendf(nil, "message %d", w.said.Add(1)),
				Timestamp: w.clock.now().Add(w.between(0, slept)).UnixNano()}
			require.NoError(w.t, w.key.Sign(town.PubsubTopic(), m))
			entries = append(entries, store.NewEntry(town, m))
		}
		w.note("they sleep for %v, and %d messages are kept", slept, len(entries))
		w.clock.set(time.Duration(w.clock.off.Load()) + slept)
		for _, p := range w.stores {
			require.NoError(w.t, p.archive.Put(context.Background(), entries))
		}
		w.quiet.Store(false)
	}},
	{"a store keeps what nobody signed", func(w *faultTown, d time.Duration) {
		p := w.hold(w.stores)
		defer p.mu.Unlock()
		require.NoError(w.t, p.archive.Put(context.Background(), []store.Entry{store.NewEntry(town, &message.Message{
			ContentTopic: lobby, Payload: fmt.Appendf(nil, "forged %d", w.said.Add(1)), Timestamp: w.clock.now().UnixNano(), Meta: make([]byte, 64),
		})}))
	}},
}

func (w *faultTown) all() []*place { return append(append([]*place{}, w.stores...), w.members...) }

// hold waits for one that nothing happens to.
func (w *faultTown) hold(of []*place) *place {
	p := of[w.pick(len(of))]
	p.mu.Lock()
	w.note("… it is %s", p.name())
	return p
}

// newFaultTown has stores, of which each knows the earlier ones, and members, of whom
// every second is light.
func newFaultTown(t *testing.T, seed uint64, stores, members int, opts ...waku.Option) *faultTown {
	w := &faultTown{t: t, r: rand.New(rand.NewPCG(seed, 8)), net: p2ptest.New(t, p2ptest.Config{Latency: 20 * time.Millisecond}), key: newKey(t)}
	w.c = waku.Community{Shard: town, PublicKey: w.key.PublicKey()}
	for i := range stores {
		p := w.place(i)
		p.archive = storetest.NewModel(storetest.Config{Now: p.now})
		p.opts = services()
		for _, o := range w.stores {
			p.opts = append(p.opts, waku.WithStaticPeers(o.addr()))
		}
		w.stores = append(w.stores, p)
	}
	for i := range members {
		p := w.place(10 + i)
		p.light = i%2 == 1
		p.opts = append(opts[:len(opts):len(opts)], waku.WithStateStore(newMemoryState()))
		for _, o := range w.stores {
			p.opts = append(p.opts, waku.WithStaticPeers(o.addr()))
		}
		w.members = append(w.members, p)
	}
	return w
}

func (w *faultTown) up() {
	for _, p := range w.all() {
		p.up()
	}
}

func (w *faultTown) down(seed uint64) {
	for _, p := range w.all() {
		p.down()
	}
	if w.t.Failed() {
		w.t.Logf("seed %d:\n%s", seed, strings.Join(w.log, "\n"))
	}
}

// talk has members speak, with pauses of so long at most, until the context ends.
func (w *faultTown) talk(ctx context.Context, least, most time.Duration) {
	for ctx.Err() == nil {
		if !w.quiet.Load() {
			w.say()
		}
		time.Sleep(w.between(least, most))
	}
}

// trouble has so many faults happen, some at the same time, and returns when they are over.
func (w *faultTown) trouble(n int) {
	var faulty sync.WaitGroup
	for range n {
		f := faults[w.pick(len(faults))]
		d := w.between(time.Second, 20*time.Second)
		if w.pick(3) == 0 {
			d = w.between(20*time.Second, 5*time.Minute)
		}
		faulty.Go(func() {
			w.note("%s, for %v", f.name, d)
			f.do(w, d)
			w.note("over: %s", f.name)
		})
		time.Sleep(w.between(time.Second, time.Minute))
	}
	faulty.Wait()
	w.note("all is well again")
	for _, p := range w.all() {
		p.node.NetworkChanged()
	}
}
