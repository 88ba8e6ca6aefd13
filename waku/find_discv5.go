package waku

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/peers"
)

const (
	// maxBoot is how many records of each list discv5 is told to begin with, bootByPeer
	// how many of one peer, maxBootTellers how many lists and peers are heeded.
	maxBoot        = 32
	bootByPeer     = 4
	maxBootTellers = 16
	// fruitless is after how many records in a row that are no news the walk makes
	// pauses, of walkPause doubled up to longestWalkPause.
	fruitless        = 32
	walkPause        = 5 * time.Second
	longestWalkPause = 10 * time.Minute
	// scarceWalkPause is its longest while a shard has fewer peers than it must.
	scarceWalkPause = time.Minute
	// walkTimeout bounds waiting for one record.
	walkTimeout = 20 * time.Second
)

// wantsDiscv5 tells whether discv5 is to run: if options say where, or while a shard
// is relayed and there is anybody to begin with. Light members have others find peers
// for them.
func (d *discovery) wantsDiscv5() bool {
	c := d.node.cfg
	if c.discv5.IsValid() {
		return true
	}
	if len(c.bootnodes)+len(c.trees) == 0 || c.given["WithoutDiscv5"] > 0 {
		return false
	}
	if d.isWatched() {
		return true
	}
	for _, s := range d.node.shards.joined() {
		if !s.isLight() {
			return true
		}
	}
	return false
}

// discv5Addr is the UDP address to listen on: what options say, or any port beside
// where libp2p listens.
func (d *discovery) discv5Addr() netip.AddrPort {
	if a := d.node.cfg.discv5; a.IsValid() {
		return a
	}
	if !d.node.cfg.network.Private {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	for _, a := range d.node.addrs() {
		if ip, _, plain := tcpAddr(a); plain && !ip.IsLoopback() {
			return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		}
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
}

// openDiscv5 begins discv5, which keeps the node's record from then on.
func (d *discovery) openDiscv5() error {
	n := d.node
	d.mu.Lock()
	boot := slices.Clone(n.cfg.bootnodes)
	for _, told := range d.boot {
		boot = slices.AppendSeq(boot, maps.Values(told))
	}
	d.mu.Unlock()
	err := n.handRecord(func(f enr.Fields) (recordSigner, error) {
		// What others see of a node that they can't reach isn't for the record.
		known := n.cfg.recordIP().IsValid()
		hidden := !n.isPublic() && !known
		s, err := discv5.Listen(discv5.Config{
			Key: n.cfg.identity, Listen: d.discv5Addr(), Fields: f, Bootnodes: boot,
			Fixed:        known || hidden,
			AllowPrivate: n.cfg.network.Private,
			Keep:         d.keeps,
			OnRecord:     func(*enr.Record) { d.node.recordChanged() },
			Logger:       n.cfg.logger,
		})
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		d.service = s
		d.mu.Unlock()
		return s, nil
	})
	if err == nil {
		d.walking.Store(true)
	}
	return err
}

func (d *discovery) closeDiscv5() {
	d.mu.Lock()
	s := d.service
	d.service, d.stale = nil, false
	d.mu.Unlock()
	d.walking.Store(false)
	if s == nil {
		return
	}
	table := map[peer.ID]*enr.Record{} // to begin with the next time
	for _, r := range s.Table() {
		if len(table) < maxBoot && d.mayAsk(r) {
			table[r.PeerID()] = r
		}
	}
	d.mu.Lock()
	d.boot[discv5.ProtocolID] = table
	d.mu.Unlock()
	d.node.takeRecordBack()
	d.addRefused(s, d.refuse)
	if err := s.Close(); err != nil {
		d.node.cfg.logger.Debug("closing discv5", "err", err)
	}
}

// reopenDiscv5 begins discv5 anew, if it runs: whether others can reach the node decides
// what the record says, and who may change it. It doesn't wait.
func (d *discovery) reopenDiscv5() {
	d.mu.Lock()
	d.stale = d.service != nil
	d.mu.Unlock()
	select {
	case d.shards <- struct{}{}:
	default:
	}
}

// isStale tells whether discv5 is to begin anew.
func (d *discovery) isStale() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stale
}

// beginWith lets discv5 begin with some of the records told by a list or peer. No teller
// takes another one's room.
func (d *discovery) beginWith(source peers.Source, from string, records []*enr.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	told := d.boot[from]
	if told == nil {
		if len(d.boot) >= maxBootTellers && !slices.Contains(d.node.cfg.trees, from) {
			return
		}
		told = map[peer.ID]*enr.Record{}
	}
	most := bootByPeer
	if source == peers.DNS {
		most = maxBoot
	}
	var news []*enr.Record
	for _, i := range rand.Perm(len(records)) {
		r := records[i]
		old := told[r.PeerID()]
		if old == nil && len(told) >= most || old != nil && old.Seq() >= r.Seq() || !d.mayAsk(r) {
			continue
		}
		told[r.PeerID()] = r
		news = append(news, r)
	}
	if len(news) == 0 {
		return
	}
	d.boot[from] = told
	if d.service != nil {
		d.service.AddBootnodes(news)
	}
}

// mayAsk tells whether a stranger's record names a UDP endpoint that may be asked.
func (d *discovery) mayAsk(r *enr.Record) bool {
	f := r.Fields()
	if f.UDP == 0 && f.UDP6 == 0 {
		return false
	}
	return d.node.cfg.network.Private ||
		(!f.IP4.IsValid() || reach(f.IP4) == publicReach) && (!f.IP6.IsValid() || reach(f.IP6) == publicReach)
}

// addRefused hands on what discv5 didn't take: records, and packets.
func (d *discovery) addRefused(s *discv5.Service, refuse func(string, int)) {
	stats := s.Stats()
	for reason, count := range stats.Refused {
		if reason == "unwanted" {
			reason = refusedForeign
		}
		refuse(reason, int(count))
	}
	for reason, count := range stats.Dropped {
		refuse("discv5 packet: "+reason, int(count))
	}
}

// refusedForeign is why a record isn't taken that isn't of this network.
const refusedForeign = "other cluster"

// keeps tells whether a record is of this network: one that names no shards could be
// of any. Who reads Discover sees them all.
func (d *discovery) keeps(r *enr.Record) bool {
	shards, err := r.Shards()
	if d.isWatched() {
		return err == nil
	}
	return err == nil && shards.Len() > 0 && shards.Cluster() == d.node.cfg.network.Cluster
}

// walk runs discv5 while it is wanted, and asks it for peers while some are missing.
func (d *discovery) walk(ctx context.Context) {
	defer d.closeDiscv5()
	for failures := 0; ; {
		run, ok := d.node.gate.pass(ctx)
		if !ok {
			return
		}
		if !d.wantsDiscv5() {
			d.closeDiscv5()
			if !d.waitShards(ctx, run) {
				return
			}
			continue
		}
		d.mu.Lock()
		s := d.service
		d.mu.Unlock()
		if s == nil {
			if err := d.openDiscv5(); err != nil {
				failures++
				d.note("discv5", 0, err)
				if !d.node.gate.rest(ctx, pauseAfter(failures), nil) {
					return
				}
				continue
			}
			d.mu.Lock()
			s = d.service
			d.mu.Unlock()
		}
		failures = 0
		d.search(ctx, run, s)
		if run.Err() != nil || d.isStale() {
			d.closeDiscv5() // paused, or to begin anew
		}
	}
}

// waitShards waits until shards were joined or left.
func (d *discovery) waitShards(ctx, run context.Context) bool {
	select {
	case <-d.shards:
	case <-run.Done():
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// search asks discv5 for peers while some are missing, until it isn't wanted or the node
// is paused.
func (d *discovery) search(ctx, run context.Context, s *discv5.Service) {
	ctx, done := during(ctx, run)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer done()
	asking.Go(func() { d.askAround(ctx, s) })
	found, stale, rest := 0, 0, walkPause
	for ctx.Err() == nil && d.wantsDiscv5() && !d.isStale() {
		hungry, change := d.hunger.look()
		if !hungry {
			select {
			case <-change:
				stale, rest = 0, walkPause
			case <-d.shards:
			case <-ctx.Done():
			}
			continue
		}
		asking, cancel := context.WithTimeout(ctx, walkTimeout)
		r, err := s.Next(asking)
		cancel()
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			stale = fruitless
			d.note("discv5", found, nil)
		case d.found(peers.Discv5, "", r):
			found, stale, rest = found+1, 0, walkPause
			d.note("discv5", found, nil)
			d.changed()
			continue
		default:
			stale++
		}
		if stale < fruitless {
			continue
		}
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
			rest = min(2*rest, longestWalkPause)
			if d.isScarce() {
				rest = min(rest, scarceWalkPause)
			}
		case <-change:
			stale, rest = 0, walkPause
		case <-d.shards:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
