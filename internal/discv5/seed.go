package discv5

import (
	"net/netip"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"github.com/status-im/shoal/internal/enr"
)

const (
	maxBootnodes = 512
	// maxSeedings is how many may run at once: one can be held up by a peer that
	// answers without end.
	maxSeedings = 4
)

// seeding keeps the bootnodes, and puts them into the table when asked to.
type seeding struct {
	mu      sync.Mutex
	nodes   []*enode.Node // the oldest first
	running int
	again   bool
}

// add takes in records that have a UDP endpoint; the newest of each node stays.
func (b *seeding) add(records []*enr.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := make(map[enode.ID]int, len(b.nodes))
	for i, n := range b.nodes {
		at[n.ID()] = i
	}
	for _, r := range records {
		n, err := toNode(r)
		if err != nil {
			continue
		}
		if i, known := at[n.ID()]; known {
			if n.Seq() > b.nodes[i].Seq() {
				b.nodes[i] = n
			}
			continue
		}
		at[n.ID()] = len(b.nodes)
		b.nodes = append(b.nodes, n)
	}
	if surplus := len(b.nodes) - maxBootnodes; surplus > 0 {
		b.nodes = b.nodes[surplus:]
	}
}

func (b *seeding) known() []*enode.Node {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*enode.Node(nil), b.nodes...)
}

// AddBootnodes adds nodes to begin with, at most 512 in all, and looks around
// from them at once, in the background. Those without a UDP endpoint are passed
// over.
func (s *Service) AddBootnodes(records []*enr.Record) {
	s.addBootnodes(records)
	s.reseed(maxSeedings, s.walk.poke)
}

func (s *Service) addBootnodes(records []*enr.Record) {
	s.seeding.add(records)
	trusted := map[netip.AddrPort]bool{}
	for _, n := range s.seeding.known() {
		if at, ok := n.UDPEndpoint(); ok {
			trusted[netip.AddrPortFrom(at.Addr().Unmap(), at.Port())] = true
		}
	}
	s.conn.trusted.Store(&trusted)
}

// Refresh is for a network that has changed, or a device that has slept: it
// puts the bootnodes back into the table and looks around, in the background,
// and gives up the endpoint that peers have voted for once the votes are out of
// date. The library looks around by itself every half hour.
func (s *Service) Refresh() {
	s.self.forgetVotes()
	s.reseed(maxSeedings, s.walk.poke)
}

// reseed puts the bootnodes into the table, unless limit others are doing so,
// and calls then.
func (s *Service) reseed(limit int, then func()) {
	b := &s.seeding
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running >= limit {
		b.again = true
		return
	}
	if s.begin(func() { s.seed(then) }) {
		b.running++
	}
}

func (s *Service) seed(then func()) {
	b := &s.seeding
	for again := true; again; {
		// The bootnodes are in the table at once, the lookups that follow take
		// seconds.
		soon := time.AfterFunc(seededAfter, then)
		if err := s.udp.SetFallbackNodes(b.known()); err != nil {
			s.log.Warn("discv5: bootnodes", "err", err) // each was checked
		}
		soon.Stop()
		b.mu.Lock()
		if again = b.again && s.ctx.Err() == nil; !again {
			b.running--
		}
		b.again = false
		b.mu.Unlock()
	}
	then()
}

const seededAfter = 20 * time.Millisecond
