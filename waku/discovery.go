package waku

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

const (
	// discoveryDial bounds a dial of a peer that was found.
	discoveryDial = 12 * time.Second
	// savePeersEach is how often good peers are kept for the next start, at most.
	savePeersEach = 5 * time.Minute
	// headStart is what peers of the last run have before others are looked for.
	headStart = 2 * time.Second
	// lookAgain is when is looked again at what peers announce while some are missing,
	// doubled up to longestLook while nothing happens.
	lookAgain   = 2 * time.Second
	longestLook = time.Minute
	// leftAlone is how long a peer isn't dialled that the application has parted from.
	leftAlone = 10 * time.Minute
	// maxListed is how many records are read of a list.
	maxListed = 12_000
	// maxSeen is how many records are remembered, to tell news.
	maxSeen = 4096
)

// discovery finds the peers that the node's shards need, and keeps them: finders put
// into the book whom they hear of, and the book says whom to dial and whom to drop.
type discovery struct {
	node   *Node
	book   *peers.Manager
	wake   chan struct{}
	hunger appetite

	trees   *dnsdisc.Client
	shards  chan struct{} // joined or left
	walking atomic.Bool   // discv5 runs
	points  chan struct{} // another rendezvous point may be there

	mu       sync.Mutex
	service  *discv5.Service                    // nil: discv5 doesn't run
	stale    bool                               // it is to begin anew
	boot     map[string]map[peer.ID]*enr.Record // what it begins with, beside the options', by who told
	fresh    map[lookupKey]bool                 // points to be asked at once
	saved    time.Time                          // when peers were kept last
	missing  []peers.Missing
	scarce   time.Time // since when too few are connected; zero: they aren't
	sources  map[string]*SourceHealth
	watchers map[*watcher]struct{}
	seen     map[peer.ID]uint64 // the records found lately, by their numbers
	refused  map[string]uint64  // what finders didn't take, by reason

	// plan's alone
	facts   map[peer.ID]facts
	looking time.Duration // until the next look, while nothing happens
}

// facts are what is known of a connected peer.
type facts struct {
	remote   *remote
	shards   sharding.Set
	services peers.Service
}

// makeDiscovery comes before anybody is connected.
func (n *Node) makeDiscovery() {
	d := &discovery{
		node: n, wake: make(chan struct{}, 1), shards: make(chan struct{}, 1), points: make(chan struct{}, 1),
		sources: map[string]*SourceHealth{}, watchers: map[*watcher]struct{}{}, seen: map[peer.ID]uint64{}, facts: map[peer.ID]facts{},
		fresh: map[lookupKey]bool{},
		boot:  map[string]map[peer.ID]*enr.Record{}, refused: map[string]uint64{},
	}
	d.hunger.change = make(chan struct{})
	d.book = peers.New(peers.Config{
		Self: n.host.ID(), Cluster: n.cfg.network.Cluster, AllowPrivate: n.cfg.network.Private,
		MaxConns: n.cfg.maxConns, MaxInbound: inboundShare(n.cfg.maxConns), PerAddr: n.cfg.maxConnsPerIP,
	})
	n.gater.mayDial = d.book.MayDial
	resolver := dnsdisc.Resolver(net.DefaultResolver)
	if len(n.cfg.resolvers) > 0 {
		var chain []dnsdisc.Resolver
		for _, r := range n.cfg.resolvers {
			chain = append(chain, carefulResolver{r})
		}
		resolver = dnsdisc.Chain(chain...)
	}
	d.trees = dnsdisc.New(dnsdisc.Config{Resolver: resolver, MaxRecords: maxListed, Found: func(tree string, r *enr.Record) {
		d.heard(peers.DNS, tree, []*enr.Record{r}) // before slower ones are read
	}})
	n.discovery = d
	n.exchangeClient = peerexchange.NewClient(n.host, peerexchange.ClientConfig{MaxPeers: maxExchange})
	if c := n.cfg.exchangeService; c != nil {
		n.openExchangeService(*c)
	}
}

// openDiscovery reads what the last run knew and begins to look for peers.
func (n *Node) openDiscovery(ctx context.Context) error {
	d := n.discovery
	restored := 0
	if state := n.state.load(ctx, statePeers); state != nil {
		if err := d.book.Restore(time.Now(), state); err != nil {
			n.cfg.logger.Warn("the peers of the last run can't be read", "err", err)
		}
		restored = d.book.Stats(time.Now()).Known
	}
	for _, r := range n.cfg.bootnodes {
		d.found(peers.Static, "bootnodes", r)
	}
	n.onClose(func() error { d.save(true); n.state.end(); return nil })
	if n.cfg.discv5.IsValid() {
		if err := d.openDiscv5(); err != nil {
			return optionErr(err, "WithDiscv5")
		}
	}
	n.tasks.start(d.run)
	n.tasks.start(func(ctx context.Context) {
		defer d.closeDiscv5()
		if restored > 0 && !n.gate.rest(ctx, headStart, nil) {
			return
		}
		for _, url := range n.cfg.trees {
			n.tasks.start(func(ctx context.Context) { d.readTree(ctx, url) })
		}
		n.tasks.start(d.askExchanges)
		n.tasks.start(d.askPoints)
		d.walk(ctx)
	})
	return nil
}

// shardsChanged follows a Join, Leave or Switch.
func (d *discovery) shardsChanged() {
	d.changed()
	select {
	case d.shards <- struct{}{}:
	default:
	}
}

// networkChanged has peers dialled that couldn't be reached, and others looked for.
func (d *discovery) networkChanged() {
	d.book.NetworkChanged(time.Now())
	d.mu.Lock()
	if d.service != nil {
		d.service.Refresh()
	}
	d.mu.Unlock()
	hungry, _ := d.hunger.look()
	d.hunger.set(hungry, true)
	d.changed()
}

// pointsChanged says that a peer has come, who may be a rendezvous point. It doesn't
// wait.
func (d *discovery) pointsChanged() {
	select {
	case d.points <- struct{}{}:
	default:
	}
}

// connected, settled and lost tell the book of a connection. The table of peers may be
// locked.
func (d *discovery) connected(r *remote, c network.Conn) {
	d.book.Connected(time.Now(), r.id, c.RemoteMultiaddr(), r.inbound)
}

// settled tells the book whether a peer belongs to the network; why is nil if it does.
func (d *discovery) settled(p peer.ID, why error) {
	var silence *silenceError
	switch {
	case why == nil:
	case errors.As(why, &silence):
		d.book.Failed(time.Now(), p, why)
	default:
		d.book.Foreign(time.Now(), p, why.Error())
	}
	d.changed()
}

func (d *discovery) lost(r *remote) {
	d.book.Lost(time.Now(), r.id)
	d.changed()
}

// changed says that peers or needs may have changed. It doesn't wait and may be called
// with any lock held.
func (d *discovery) changed() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *discovery) run(ctx context.Context) {
	for {
		run, ok := d.node.gate.pass(ctx)
		if !ok {
			return
		}
		var due <-chan time.Time
		if wait := d.plan(); wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-due:
		case <-d.wake:
			d.looking = lookAgain
		case <-run.Done():
		case <-ctx.Done():
			return
		}
	}
}

// plan does what the book says and returns when to look again; zero: when something
// has changed.
func (d *discovery) plan() (wait time.Duration) {
	n := d.node
	if d.look() {
		d.looking = lookAgain
	}
	now := time.Now()
	d.book.Want(now, d.needs())
	d.book.Keep(d.inUse()...)
	plan := d.book.Plan(now)
	for _, info := range plan.Dial {
		if !n.tasks.start(func(ctx context.Context) { d.dial(ctx, info) }) {
			return 0
		}
	}
	for _, drop := range plan.Drop {
		n.tasks.start(func(context.Context) { n.drop(drop.ID, drop.Reason) })
	}
	d.mu.Lock()
	before := d.missing
	d.missing = plan.Missing
	scarce := d.noteScarce(now)
	d.mu.Unlock()
	d.hunger.set(hungry(plan.Missing) || d.isWatched(), worse(before, plan.Missing))
	d.save(false)
	for _, due := range []time.Time{plan.Next, scarce} {
		if left := max(time.Until(due), time.Millisecond); !due.IsZero() && (wait == 0 || left < wait) {
			wait = left
		}
	}
	if len(plan.Missing) > 0 && len(d.facts) > 0 {
		d.looking = max(d.looking, lookAgain)
		if wait == 0 || wait > d.looking {
			wait = d.looking
			d.looking = min(2*d.looking, longestLook)
		}
	}
	return wait
}

// look tells the book what connected peers carry and offer, and returns whether that has
// changed.
func (d *discovery) look() (news bool) {
	n := d.node
	announced := map[peer.ID][]sharding.Shard{}
	for _, s := range n.shards.joined() {
		for _, p := range n.relay.Peers(s.shard) {
			announced[p] = append(announced[p], s.shard)
		}
	}
	known := map[peer.ID]facts{}
	for _, p := range n.peers.proven() {
		r := n.peers.get(p)
		if r == nil {
			continue
		}
		f := facts{remote: r, shards: n.setOf(n.peers.carries(r, nil), announced[p])}
		for id, service := range serviceIDs {
			if n.speaks(p, id) {
				f.services |= service
			}
		}
		known[p] = f
		if old, ok := d.facts[p]; !ok || old != f {
			d.book.Proven(time.Now(), p, f.shards, f.services)
			d.book.Listens(time.Now(), p, n.host.Peerstore().Addrs(p))
			news = true
		}
	}
	d.facts = known
	return news
}

// setOf are the shards of this network among those given.
func (n *Node) setOf(given ...[]sharding.Shard) sharding.Set {
	set, _ := sharding.NewSet(n.cfg.network.Cluster) // empty, so without an error
	for _, shards := range given {
		for _, s := range shards {
			if s.Cluster == n.cfg.network.Cluster {
				_ = set.Add(s.Index) // a shard that isn't one is left out
			}
		}
	}
	return set
}

// serviceIDs are the protocols that make a service peer.
var serviceIDs = map[protocol.ID]peers.Service{
	relay.ID: peers.Relay, store.ID: peers.Store, filter.SubscribeID: peers.Filter,
	lightpush.ID: peers.LightPush, lightpush.LegacyID: peers.LightPush, peerexchange.ID: peers.PeerExchange,
}

// inUse are the peers that are never dropped to make room.
func (d *discovery) inUse() []peer.ID {
	n := d.node
	var ids []peer.ID
	for _, s := range n.static {
		ids = append(ids, s.info.ID)
	}
	ids = append(ids, n.helper.reserved()...)
	if n.nat != nil {
		ids = append(ids, n.nat.circuits.relayers()...)
	}
	for _, s := range n.shards.all() {
		ids = append(ids, n.relay.Mesh(s.shard)...)
		s.light.mu.Lock()
		for _, k := range s.light.byAge() {
			ids = append(ids, k.peer)
		}
		s.light.mu.Unlock()
	}
	return ids
}

// dial connects to a peer of the book.
func (d *discovery) dial(ctx context.Context, info peer.AddrInfo) {
	n := d.node
	defer d.changed()
	_, open, run, _ := n.gate.look()
	if !open {
		d.book.Failed(time.Now(), info.ID, context.Canceled)
		return
	}
	dialling, done := during(ctx, run)
	defer done()
	limit := discoveryDial
	if slices.ContainsFunc(info.Addrs, isCircuit) {
		limit += punchWait
	}
	dialling, cancel := context.WithTimeout(dialling, limit)
	defer cancel()
	_, err := n.connect(dialling, info)
	switch {
	case run.Err() != nil || ctx.Err() != nil:
		d.book.Failed(time.Now(), info.ID, context.Canceled)
	case err != nil:
		d.book.Failed(time.Now(), info.ID, err)
	}
}

// found puts a record into the book, and tells whether it is news there.
func (d *discovery) found(source peers.Source, from string, r *enr.Record) bool {
	shards, err := r.Shards()
	if err != nil {
		d.refuse(peerexchange.RefusedShards, 1)
		return false
	}
	if r.PeerID() == d.node.host.ID() {
		return false
	}
	d.tell(source, r, shards)
	d.book.Found(time.Now(), peers.FromRecord(r, source, from))
	return d.isNews(r)
}

// refuse counts what a finder didn't take. There are few reasons.
func (d *discovery) refuse(reason string, n int) {
	if n <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused[reason] += uint64(n)
}

// isNews tells whether a record hasn't been found before, as far as that is remembered.
func (d *discovery) isNews(r *enr.Record) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if seq, known := d.seen[r.PeerID()]; known && seq >= r.Seq() {
		return false
	}
	if len(d.seen) >= maxSeen {
		clear(d.seen)
	}
	d.seen[r.PeerID()] = r.Seq()
	return true
}

// save keeps the good peers for the next run, if some time has passed or it is the end.
func (d *discovery) save(end bool) {
	now := time.Now()
	d.mu.Lock()
	due := end || now.Sub(d.saved) >= savePeersEach
	if due {
		d.saved = now
	}
	d.mu.Unlock()
	if due {
		d.node.state.save(statePeers, d.book.Snapshot(now))
	}
}

// appetite makes finders look for peers while some are missing.
type appetite struct {
	mu     sync.Mutex
	hungry bool
	change chan struct{} // closed when there is reason to look at once
}

func (a *appetite) set(hungry, urgent bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if urgent || hungry && !a.hungry {
		close(a.change)
		a.change = make(chan struct{})
	}
	a.hungry = hungry
}

func (a *appetite) look() (hungry bool, change <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hungry, a.change
}

// wait returns when peers are missing and the node isn't paused; not ok: ctx has ended.
func (d *discovery) wait(ctx context.Context) (run context.Context, ok bool) {
	for {
		run, ok := d.node.gate.pass(ctx)
		if !ok {
			return run, false
		}
		hungry, change := d.hunger.look()
		if hungry {
			return run, true
		}
		select {
		case <-change:
		case <-run.Done():
		case <-ctx.Done():
		}
	}
}

// rest waits for d, or less if peers begin to be missing.
func (d *discovery) rest(ctx context.Context, wait time.Duration) bool {
	_, change := d.hunger.look()
	return d.node.gate.rest(ctx, wait, change)
}

// hungry tells whether finders have something to look for.
func hungry(missing []peers.Missing) bool {
	return slices.ContainsFunc(missing, func(m peers.Missing) bool { return m.Have < m.Target })
}

// worse tells whether something is missing that wasn't, or has become scarce.
func worse(before, now []peers.Missing) bool {
	return slices.ContainsFunc(now, func(m peers.Missing) bool {
		return !slices.ContainsFunc(before, func(b peers.Missing) bool {
			return b.Shard == m.Shard && b.Service == m.Service && (b.Have < b.Min || m.Have >= m.Min)
		})
	})
}

// note keeps how a source of peers is doing.
func (d *discovery) note(name string, records int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sources[name]
	if s == nil {
		s = &SourceHealth{Name: name}
		d.sources[name] = s
	}
	s.At = d.node.cfg.now()
	s.Failure = ""
	if err != nil {
		s.Failure = line(err)
		return
	}
	s.Records = records
}
