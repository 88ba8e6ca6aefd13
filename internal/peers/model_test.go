package peers_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

// The model knows what happened, by the simplest means, and what must hold.
type model struct {
	t     testing.TB
	r     *rand.Rand
	c     peers.Config
	m     *peers.Manager
	now   time.Time
	needs []peers.Need
	peers []*modelPeer // by number
	byID  map[peer.ID]*modelPeer
	kept  map[peer.ID]bool
	log   []time.Time // dials
	plans []string    // what was decided

	asked, dials, drops, connects int
}

type modelPeer struct {
	n        int
	id       peer.ID
	told     map[string]bool // addresses
	seq      uint64
	dialling time.Time
	where    []ma.Multiaddr // it is dialled
	planned  bool           // connected since a plan wanted it
	open     bool
	inbound  bool
	proven   bool
	shards   sharding.Set
	services peers.Service
	at       ma.Multiaddr
	dropped  time.Time
	barred   time.Time // foreign or cut
	ours     bool      // the operator or the program told of it
}

const (
	modelConns   = 40
	modelInbound = 26
	mostConns    = 36
	mostInbound  = 24
	modelPerAddr = 6
	modelPeers   = 300
)

func newModel(t testing.TB, seed uint64) *model {
	c := config(seed)
	c.MaxConns, c.MaxInbound, c.PerAddr, c.MaxKnown = modelConns, modelInbound, modelPerAddr, 150
	x := &model{
		t: t, r: rand.New(rand.NewPCG(seed, 77)), c: c, m: peers.New(c), now: start,
		byID: map[peer.ID]*modelPeer{}, kept: map[peer.ID]bool{},
	}
	for n := range modelPeers {
		p := &modelPeer{n: n, id: id(n), told: map[string]bool{}}
		x.peers, x.byID[p.id] = append(x.peers, p), p
	}
	return x
}

func (x *model) any() *modelPeer { return x.peers[1+x.r.IntN(modelPeers-1)] }

// addr is one of few networks, a LAN, or a name.
func (x *model) addr() ma.Multiaddr {
	switch x.r.IntN(10) {
	case 0:
		return tcp(192, 168, 1, x.r.IntN(250))
	case 1:
		return maddr(fmt.Sprintf("/dns4/n%d.%c.org/tcp/443/wss", x.r.IntN(9), 'a'+x.r.IntN(5)))
	case 2, 3:
		return maddr(fmt.Sprintf("/ip4/66.6.6.6/tcp/%d", 1+x.r.IntN(60000)))
	}
	return tcp(20+x.r.IntN(60), x.r.IntN(2), x.r.IntN(2), x.r.IntN(3)+1)
}

func (x *model) shards() sharding.Set {
	switch x.r.IntN(6) {
	case 0:
		return sharding.Set{}
	case 1:
		return carries(0, 1, 2, 3, 4)
	}
	return carries(uint16(x.r.IntN(6)), uint16(x.r.IntN(6)))
}

func (x *model) services() peers.Service {
	if x.r.IntN(8) == 0 {
		return 0
	}
	return peers.Relay | peers.Service(x.r.IntN(32))
}

func (x *model) pick(is func(*modelPeer) bool) *modelPeer {
	var all []*modelPeer
	for _, p := range x.peers {
		if is(p) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[x.r.IntN(len(all))]
}

func isOpen(p *modelPeer) bool { return p.open }

// step is a random event.
func (x *model) step() {
	switch e := x.r.IntN(100); {
	case e < 25:
		x.found()
	case e < 35: // somebody comes, or the program dials
		p := x.any()
		if total, _ := x.count(); total >= modelConns {
			return
		}
		x.connect(p, x.addr(), x.r.IntN(6) > 0)
	case e < 50:
		if p := x.pick(isOpen); p != nil {
			shards, services := x.shards(), x.services()
			x.m.Proven(x.now, p.id, shards, services)
			if !x.now.Before(p.barred) {
				p.proven, p.shards, p.services = true, shards, services
			}
		}
	case e < 60:
		if p := x.pick(isOpen); p != nil {
			x.lose(p)
		}
	case e < 62:
		if p := x.pick(func(p *modelPeer) bool { return p.n > 0 }); p != nil {
			x.bar(p)
		}
	case e < 64:
		x.want()
	case e < 65:
		x.m.NetworkChanged(x.now)
	case e < 67:
		clear(x.kept)
		for range 5 {
			x.kept[x.any().id] = true
		}
		x.m.Keep(slices.Collect(maps.Keys(x.kept))...)
	case e < 70:
		if p := x.pick(isOpen); p != nil {
			x.m.Alive(x.now, p.id, time.Duration(x.r.IntN(1000))*time.Millisecond)
			x.m.Reachable(x.now, p.id)
		}
	case e < 72:
		x.queries()
	case e < 75:
		x.wait()
	default:
		x.now = x.now.Add(time.Duration(x.r.ExpFloat64() * float64(time.Second)))
	}
	x.answer()
	x.plan()
}

func (x *model) found() {
	p := x.any()
	s := peers.Sighting{
		Info: peer.AddrInfo{ID: p.id}, Shards: x.shards(), Services: x.services(),
		Source: peers.Source(1 + x.r.IntN(8)), From: fmt.Sprint(x.r.IntN(6)),
	}
	if s.Source == peers.Static && x.r.IntN(10) > 0 {
		s.Source = peers.Discv5
	}
	if x.r.IntN(3) > 0 {
		s.Record, s.Seq = []byte{1}, uint64(x.r.IntN(5))+p.seq
		p.seq = max(p.seq, s.Seq)
	}
	for range x.r.IntN(4) {
		s.Info.Addrs = append(s.Info.Addrs, x.addr())
	}
	for _, a := range s.Info.Addrs {
		p.told[a.String()] = true
	}
	p.ours = p.ours || s.Source <= peers.Application
	x.m.Found(x.now, s)
}

func (x *model) connect(p *modelPeer, at ma.Multiaddr, inbound bool) {
	if !p.open {
		p.open, p.inbound, p.proven, p.dropped, p.at = true, inbound, false, time.Time{}, at
	}
	if !inbound {
		p.inbound, p.at, p.planned = false, at, false
		p.told[at.String()] = true
	}
	p.dialling = time.Time{}
	x.connects++
	x.m.Connected(x.now, p.id, at, inbound)
}

func (x *model) lose(p *modelPeer) {
	p.open, p.proven, p.planned, p.dropped = false, false, false, time.Time{}
	x.m.Lost(x.now, p.id)
}

func (x *model) bar(p *modelPeer) {
	if _, ok := x.m.Known(p.id); !ok {
		return
	}
	var until time.Time
	if x.r.IntN(2) == 0 {
		x.m.Foreign(x.now, p.id, "cluster 1")
		until = x.now // a newer record may end it
	} else {
		until = x.now.Add(10 * time.Minute)
		x.m.Cut(x.now, p.id, until)
	}
	if p.dialling = (time.Time{}); until.After(p.barred) {
		p.barred = until
	}
	q, _ := x.m.Known(p.id)
	p.proven = q.Proven
}

func (x *model) want() {
	x.needs = nil
	for i := range x.r.IntN(6) {
		n := relays(uint16(i), x.r.IntN(4), x.r.IntN(8), x.r.IntN(4))
		if x.r.IntN(3) == 0 {
			n.Service, n.Outbound = peers.Service(1<<x.r.IntN(5)), 0
		}
		n.Target = max(n.Target, n.Min)
		x.needs = append(x.needs, n)
	}
	x.m.Want(x.now, x.needs)
}

// answer ends some dials. A few are never answered.
func (x *model) answer() {
	for _, p := range x.peers {
		if p.dialling.IsZero() || p.n%50 == 0 || x.r.IntN(4) > 0 {
			continue
		}
		switch x.r.IntN(5) {
		case 0:
			p.dialling = time.Time{}
			x.m.Failed(x.now, p.id, context.Canceled)
		case 1, 2:
			p.dialling = time.Time{}
			x.m.Failed(x.now, p.id, errNoOne)
		default:
			x.connect(p, p.where[x.r.IntN(len(p.where))], false)
			p.planned = true
		}
	}
}

func (x *model) queries() {
	for _, b := range x.m.Best(shard(1), peers.Relay) {
		p := x.byID[b]
		require.True(x.t, p.open && p.proven && p.services.Has(peers.Relay) && (p.shards.Len() == 0 || p.shards.Contains(shard(1))))
	}
	require.LessOrEqual(x.t, len(x.m.Sample(x.now, self, 7, time.Minute)), 7)
	b := x.m.Snapshot(x.now)
	require.NoError(x.t, peers.New(x.c).Restore(x.now, b))
}

// count is how many are connected, and aren't about to go.
func (x *model) count() (total, inbound int) {
	for _, p := range x.peers {
		if x.here(p) {
			total++
			if p.inbound {
				inbound++
			}
		}
	}
	return total, inbound
}

func (x *model) here(p *modelPeer) bool {
	return p.open && (p.dropped.IsZero() || x.now.Sub(p.dropped) >= 30*time.Second)
}

func (x *model) serves(p *modelPeer, n peers.Need) bool {
	return x.here(p) && p.proven && p.services.Has(n.Service) &&
		(p.shards.Contains(n.Shard) || p.shards.Len() == 0 && !n.Service.Has(peers.Relay))
}

func (x *model) have(n peers.Need) (have, out, trusted int) {
	for _, p := range x.peers {
		if !x.serves(p, n) {
			continue
		}
		have++
		if !p.inbound {
			out++
		}
		if k, _ := x.m.Known(p.id); k.Source <= peers.Saved {
			trusted++
		}
	}
	return have, out, trusted
}

// wait does nothing until the manager says that there is something to do.
func (x *model) wait() {
	for drops := -1; drops != x.drops; {
		drops = x.drops
		x.plan()
	}
	p := x.m.Plan(x.now)
	require.Empty(x.t, p.Dial, "planned twice")
	require.Empty(x.t, p.Drop, "planned twice")
	until := p.Next.Add(-time.Nanosecond)
	if p.Next.IsZero() {
		until = x.now.Add(time.Duration(x.r.IntN(24)) * time.Hour)
	}
	x.now = until
	q := x.m.Plan(x.now)
	require.Empty(x.t, q.Dial, "a dial that wasn't announced")
	require.Empty(x.t, q.Drop, "a drop that wasn't announced")
	require.Equal(x.t, p.Next, q.Next)
	if !p.Next.IsZero() && x.r.IntN(2) == 0 {
		x.now = p.Next
	}
}

// plan asks for a plan and checks it.
func (x *model) plan() {
	t := x.t
	for _, p := range x.peers { // dials nobody answered for
		if !p.dialling.IsZero() && x.now.Sub(p.dialling) >= peers.DialTimeout {
			p.dialling = time.Time{}
		}
	}
	before := make([][3]int, len(x.needs))
	lacking, lackingTrusted, room, plenty := false, false, false, false
	for i, n := range x.needs {
		have, out, trusted := x.have(n)
		before[i] = [3]int{have, out, trusted}
		room = room || out < n.Target+n.Target/2 // so many, to hear others as well
		plenty = plenty || out > n.Target
		lacking = lacking || have < n.Target || out < n.Outbound
		lackingTrusted = lackingTrusted || trusted < max((n.Outbound+1)/2, min(1, n.Target-1))
	}
	total, inbound := x.count()
	crowded := map[string]int{}
	for _, p := range x.peers {
		if x.here(p) && p.inbound {
			crowded[p.host()]++
		}
	}

	plan := x.m.Plan(x.now)
	x.asked++
	if x.asked <= 1000 {
		x.plans = append(x.plans, fmt.Sprint(plan))
	}
	require.True(t, plan.Next.IsZero() || plan.Next.After(x.now), "a plan for now")
	outDrops := 0
	for _, d := range plan.Drop {
		p := x.byID[d.ID]
		require.True(t, x.here(p), "dropped though it isn't there")
		require.False(t, x.kept[d.ID], "dropped though in use")
		if p.inbound {
			require.True(t, inbound > mostInbound || total > mostConns || crowded[p.host()] > modelPerAddr, "dropped without need: %s", d.Reason)
			inbound--
			crowded[p.host()]--
		} else {
			outDrops++
			require.True(t, total > mostConns || (plenty || total-inbound >= mostConns-mostInbound) && outDrops == 1, "dropped without need: %s", d.Reason)
		}
		total--
		p.dropped = x.now
		x.drops++
	}
	for i, n := range x.needs {
		have, _, _ := x.have(n)
		require.GreaterOrEqual(t, have, min(before[i][0], n.Min), "the last peers of %v", n.Shard)
		missing := slices.ContainsFunc(plan.Missing, func(m peers.Missing) bool { return m.Need == n })
		_, out, _ := x.have(n)
		require.Equal(t, have < n.Target || out < n.Outbound, missing, "%v: %d of them, %d dialled: %v", n, have, out, plan.Missing)
	}
	for _, d := range plan.Dial {
		x.dial(d, lacking || room, lackingTrusted)
	}
	inFlight := 0
	nets := map[netip.Prefix]int{}
	for _, p := range x.peers {
		if !p.dialling.IsZero() {
			inFlight++
		}
		if p.open && x.asked%5 == 0 {
			k, ok := x.m.Known(p.id)
			if !ok || !k.Connected {
				t.Fatal("forgotten while connected")
			}
			if net := prefix24(p.at); p.planned && k.Source > peers.Saved && net.IsValid() && !net.Addr().IsPrivate() {
				nets[net]++
			}
		}
	}
	require.LessOrEqual(t, inFlight, 8)
	for net, n := range nets {
		require.LessOrEqual(t, n, 2, net)
	}
	st := x.m.Stats(x.now)
	require.Equal(t, inFlight, st.Dialling)
	require.LessOrEqual(t, st.Known, 150+modelConns)
	if x.asked%10 == 0 {
		require.Empty(t, x.m.Check())
	}
	for _, d := range plan.Drop { // most of them go
		if p := x.byID[d.ID]; x.r.IntN(10) > 0 {
			x.lose(p)
		}
	}
}

func (p *modelPeer) host() string {
	if v, err := p.at.ValueForProtocol(ma.P_IP4); err == nil {
		return v
	}
	v, _ := p.at.ValueForProtocol(ma.P_DNS4)
	return v
}

func (x *model) dial(d peer.AddrInfo, lacking, lackingTrusted bool) {
	t, p := x.t, x.byID[d.ID]
	require.NotNil(t, p)
	require.False(t, p.open, "dialled though connected")
	require.True(t, p.dialling.IsZero(), "dialled twice")
	require.False(t, x.now.Before(p.barred), "dialled though barred")
	known, _ := x.m.Known(d.ID)
	require.True(t, lacking || lackingTrusted && known.Source <= peers.Saved, "dialled without need")
	require.NotEmpty(t, d.Addrs)
	require.LessOrEqual(t, len(d.Addrs), 9)
	for _, a := range d.Addrs {
		require.True(t, p.told[a.String()], "an address nobody told: %s", a)
		ip, err := a.ValueForProtocol(ma.P_IP4)
		require.True(t, p.ours || err != nil || !netip.MustParseAddr(ip).IsPrivate(), "a private address: %s", a)
	}
	p.dialling, p.where = x.now, d.Addrs
	x.log = append(x.log, x.now)
	x.dials++
}

var seeds = flag.Uint64("seeds", 3, "how many times the model is run")

// Ten thousand random events: limits hold, dials are bounded, a shard's last peers
// stay, nobody is forgotten while connected, plans are announced, and the same
// events lead to the same decisions.
func TestModel(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			x := newModel(t, seed)
			for range fewer(10_000) {
				x.step()
			}
			bounded(t, x.log)
			t.Logf("%d dials, %d connections, %d drops", x.dials, x.connects, x.drops)
			if !raceEnabled {
				require.Greater(t, x.dials, 500)
				require.Greater(t, x.drops, 50)
			}
			if seed > 0 {
				return
			}
			y := newModel(t, seed)
			for y.asked < 1000 {
				y.step()
			}
			require.Equal(t, y.plans, x.plans)
		})
	}
}
