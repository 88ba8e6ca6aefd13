package waku

import (
	"context"
	"time"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/peers"
)

const (
	// fallbackAfter is how long a shard of a private node has no mesh when service
	// peers stand in for it, and fallbackLook how often is looked meanwhile. Service
	// peers are looked for after fallbackSeek.
	fallbackAfter = 12 * time.Second
	fallbackSeek  = 4 * time.Second
	fallbackLook  = time.Second
)

// meshesChanged says that a mesh, a membership or the verdict has changed. It doesn't
// wait.
func (n *Node) meshesChanged() {
	select {
	case n.meshes <- struct{}{}:
	default:
	}
}

// watchMeshes lets service peers stand in for the meshes that a private node lacks: its
// peers may have no room for it, and others can't be reached.
func (n *Node) watchMeshes(ctx context.Context) {
	for {
		run, ok := n.gate.pass(ctx)
		if !ok {
			return
		}
		var due <-chan time.Time
		if n.lookAtMeshes() {
			due = time.After(fallbackLook)
		}
		select {
		case <-due:
		case <-n.meshes:
		case <-run.Done():
			for _, s := range n.shards.all() {
				s.mu.Lock()
				s.lacksMesh = time.Time{}
				s.mu.Unlock()
			}
		case <-ctx.Done():
			return
		}
	}
}

// lookAtMeshes begins and ends what stands in, and tells whether to look again soon.
func (n *Node) lookAtMeshes() (again bool) {
	private := n.nat.isPrivate()
	for _, s := range n.shards.all() {
		relays, standsIn := n.relays(s.shard), s.standsIn.Load()
		switch {
		case standsIn && (!relays || stood(s.meshSince(), switchSettle)):
			s.standIn(false)
		case standsIn:
			again = true
		case relays && s.mesh.Load() == 0 && private:
			again = true
			since := s.lacking()
			if since >= fallbackSeek {
				n.discovery.changed() // the needs are others
			}
			if since >= fallbackAfter && (len(n.servers(s.shard, filter.SubscribeID)) > 0 || len(n.pushServers(s)) > 0) {
				s.standIn(true)
			}
		default:
			s.mu.Lock()
			s.lacksMesh = time.Time{}
			s.mu.Unlock()
		}
	}
	return again
}

// lacking is for how long the shard has had no mesh, as far as anybody looked.
func (s *shard) lacking() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lacksMesh.IsZero() {
		s.lacksMesh = time.Now()
	}
	return time.Since(s.lacksMesh)
}

// seeksLight tells whether service peers are wanted although the shard is relayed.
func (s *shard) seeksLight() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standsIn.Load() || !s.lacksMesh.IsZero() && time.Since(s.lacksMesh) >= fallbackSeek
}

// isServed tells whether service peers stand in for the mesh now.
func (s *shard) isServed() bool { return s.standsIn.Load() && s.mesh.Load() == 0 }

// standIn begins or ends the time in which service peers serve a shard that the
// application wants relayed. Members stay in the mesh, if there is one.
func (s *shard) standIn(on bool) {
	if s.standsIn.Swap(on) == on {
		return
	}
	n := s.node
	count := 0
	if on {
		count = 1
		s.light.start()
	}
	n.emit(Event{Kind: LightFallback, Shard: s.shard, Count: count})
	s.light.changed()
	n.discovery.changed()
}

// lightNeeds are the service peers that a shard needs whose members are served by them.
func lightNeeds(s *shard) []peers.Need {
	return []peers.Need{
		{Shard: s.shard, Service: peers.Filter, Min: lightPeers, Target: filterPeersWanted},
		{Shard: s.shard, Service: peers.LightPush, Min: 1, Target: pushPeersWanted},
	}
}
