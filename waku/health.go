package waku

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// State says how well a shard is connected (nwaku's topic health).
type State uint8

// The states of a shard.
const (
	// Unhealthy: no mesh peer; what is sent reaches nobody, or hardly.
	Unhealthy State = iota
	// Minimal: some mesh peers, but fewer than the profile's DLow.
	Minimal
	// Sufficient: a full mesh.
	Sufficient
)

// String returns "unhealthy", "minimal" or "sufficient".
func (s State) String() string {
	switch s {
	case Unhealthy:
		return "unhealthy"
	case Minimal:
		return "minimal"
	case Sufficient:
		return "sufficient"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Health is a node's state at one moment: a value, nobody else's.
type Health struct {
	// At is the node's clock.
	At time.Time
	// State is the worst shard's; Unhealthy when nothing is joined.
	State State
	// Paused is true from [Node.Pause] until calls work again after [Node.Resume].
	Paused bool
	// Summary says in a sentence what is wrong first, or that nothing is.
	Summary string
	// Peers is the number of connected peers that belong to the network.
	Peers int
	// Shards are the joined shards, in order.
	Shards []ShardHealth
	// Clock is what the node thinks of its clock.
	Clock ClockHealth
	// Refused counts what relay refused before a shard's rules were asked, by
	// reason: "malformed", "too large", "foreign shard", "control flood", ….
	Refused map[string]uint64
	// PeersCut counts peers disconnected for what they sent.
	PeersCut uint64
	// Disconnects are the last peers turned away or lost, the latest first, at
	// most 16.
	Disconnects []Disconnect
	// Static are the peers of WithStaticPeers.
	Static []StaticPeer
	// Discovery is how looking for peers is going.
	Discovery DiscoveryHealth
	// HistoryRefused counts messages from store nodes that weren't genuine: not
	// signed with a key that counted at their time, most of all.
	HistoryRefused uint64
	// Archive is the state of the archive of WithArchive; nil without one.
	Archive *ArchiveHealth
	// NAT is how others reach a node with [WithNAT]; nil without.
	NAT *NATHealth
	// Helper is what the node does for others that can't be reached.
	Helper HelperHealth
}

// ShardHealth is the state of one shard.
type ShardHealth struct {
	Shard sharding.Shard
	// Mode is how the node takes part; ModeLight if all memberships are light.
	Mode  Mode
	State State
	// Reason says in a sentence why State isn't Sufficient, or why nothing can
	// pass; empty otherwise.
	Reason string
	// Mesh and Peers count the peers in this node's mesh, and those that announced
	// the shard.
	Mesh, Peers int
	// Memberships is how often the shard is joined.
	Memberships int
	// Protected is true when messages must be signed. Keys counts the keys valid
	// now.
	Protected bool
	Keys      int
	// Delivered counts messages that passed every rule, own ones included, Lost
	// those that slow readers lost, and Duplicates copies of what was known.
	Delivered, Lost, Duplicates uint64
	// BytesIn and BytesOut are those of encoded messages from and to peers,
	// copies included, without the gossip around them.
	BytesIn, BytesOut uint64
	// Refused counts what didn't pass the shard's rules, by reason:
	// "no_signature", "bad_signature", "outside_window", "replay", ….
	Refused map[string]uint64
	// Validators are the plugged-in ones that aren't well.
	Validators []ValidatorHealth
	// Gaps are the times of which messages may be missing and are still to be read back
	// from store nodes, the oldest first.
	Gaps []Gap
	// FromStores counts what was asked of store nodes for the shard's readers.
	FromStores StoreTraffic
	// StandIn is true while service peers serve a shard that is relayed, because it
	// has no mesh ([WithNAT]). State is then that of a light member.
	StandIn bool
	// Outgoing is what becomes of the messages sent.
	Outgoing OutgoingHealth
	// Light is how light members are served; nil while the shard is relayed, but for
	// StandIn.
	Light *LightHealth
}

// LightHealth is how a shard's light members are served. The shard is Sufficient
// with two service peers that push everything, Minimal with one.
type LightHealth struct {
	// ServicePeers are those asked to push, the oldest first.
	ServicePeers []ServicePeer
	// Topics counts the content topics that readers want, Covered those that a
	// service peer has confirmed.
	Topics, Covered int
	// Gaps counts the times that are still to be read back from a store, and
	// GapFailure says why that failed last.
	Gaps       int
	GapFailure string
	// Refused counts messages pushed that didn't pass the shard's rules.
	Refused uint64
	// Failure says which service peer failed last, and why.
	Failure string
}

// ServicePeer is one that pushes a light member's messages.
type ServicePeer struct {
	Peer peer.ID
	// Topics counts the content topics that it has confirmed, Pushed what it has
	// pushed.
	Topics int
	Pushed uint64
	// Suspect is true while it doesn't answer.
	Suspect bool
	// Proof is when it was last known to push, by the node's clock.
	Proof time.Time
}

// ValidatorHealth is the state of a plugged-in validator.
type ValidatorHealth struct {
	Name string
	// Stuck is how many of its calls were abandoned and still run; at 16 it isn't
	// asked any more.
	Stuck int
	// TimedOut, Panicked and NoVerdict count its calls that ended so, NotAsked
	// the messages ignored without a call because it was stuck.
	TimedOut, Panicked, NoVerdict, NotAsked uint64
}

// ClockHealth is what the node thinks of its clock, from the timestamps of signed
// messages.
type ClockHealth struct {
	// Suspect is true when the messages of several peers agree that the clock is
	// wrong. Send fails with a *ClockError meanwhile.
	Suspect bool
	// Offset is how far the network's time is ahead of the node's.
	Offset time.Duration
	// Since is when the suspicion arose, by the node's clock.
	Since time.Time
}

// Disconnect tells of a peer that was turned away or lost.
type Disconnect struct {
	Peer peer.ID
	At   time.Time
	// Reason is a sentence, such as "peer is on cluster 1, ours is 16".
	Reason string

	kind PeerErrorKind // PeerForeign: it was the peer's own word, or what that lacked
}

// StaticPeer is the state of one of [WithStaticPeers].
type StaticPeer struct {
	Peer      peer.ID
	Connected bool
	// Failures counts the attempts since the last success; LastError is the last
	// one's.
	Failures  int
	LastError string
	// NextTry is when the next attempt is due.
	NextTry time.Time
}

// Health returns the node's state. It asks nobody and doesn't wait.
func (n *Node) Health() Health {
	h := Health{
		At:          n.cfg.now(),
		Peers:       len(n.peers.proven()),
		Clock:       n.clock.health(),
		Disconnects: n.peers.lastDisconnects(),
		Archive:     n.archiver.health(),
		Paused:      !n.gate.isOpen(),
		Discovery:   n.discovery.health(),

		HistoryRefused: n.storeClient.Dropped(),
		NAT:            n.nat.health(),
	}
	h.Helper.Point, h.Helper.Circuits = n.helper.stats()
	for _, s := range n.static {
		h.Static = append(h.Static, s.health())
	}
	stats := n.relay.Stats()
	h.PeersCut, h.Refused = stats.PeersCut, stats.Refused
	maps.DeleteFunc(h.Refused, func(reason string, _ uint64) bool {
		return strings.HasPrefix(reason, "screen ") // the shards' own, counted there
	})
	byShard := map[sharding.Shard]relay.ShardStats{}
	for _, st := range stats.Shards {
		byShard[st.Shard] = st
	}
	for i, s := range n.shards.joined() {
		sh := s.health(byShard[s.shard])
		if sh.State == Unhealthy && sh.Reason != "" {
			sh.Reason += prefixed("; ", h.Discovery.onShard(s.shard))
		}
		h.Shards = append(h.Shards, sh)
		if i == 0 || sh.State < h.State {
			h.State = sh.State
		}
	}
	h.Summary = h.summary()
	return h
}

func (s *shard) health(stats relay.ShardStats) ShardHealth {
	mesh := s.mesh.Load()
	h := ShardHealth{
		Shard:       s.shard,
		Mode:        ModeRelay,
		State:       s.state(mesh),
		Mesh:        int(mesh),
		Peers:       len(s.node.relay.Peers(s.shard)),
		Memberships: s.memberships(),
		Protected:   s.protected.Load(),
		Delivered:   stats.Delivered,
		Lost:        stats.Lost,
		Duplicates:  stats.Duplicates,
		BytesIn:     stats.BytesIn,
		BytesOut:    stats.BytesOut,
		Refused:     s.refused(stats),
	}
	if h.Protected {
		h.Keys = len(s.keys.Valid(s.node.cfg.now()))
	}
	for _, p := range s.plugins {
		if v, unwell := p.health(); unwell {
			h.Validators = append(h.Validators, v)
		}
	}
	if s.isLight() {
		h.Mode, h.Mesh = ModeLight, 0
		s.light.health(&h)
	}
	if s.isServed() {
		h.StandIn = true
		s.light.health(&h)
	}
	s.gaps.health(&h)
	h.Outgoing = s.outbox.health()
	h.Reason = h.reason(s.node.cfg.profile.DLow)
	return h
}

// refused counts by reason; reasons that didn't occur are left out.
func (s *shard) refused(stats relay.ShardStats) map[string]uint64 {
	out := map[string]uint64{}
	for _, c := range s.signed.Counters().Snapshot() {
		if c.Verdict != message.Accept && c.N > 0 {
			out[c.Reason.String()] += c.N
		}
	}
	for _, c := range s.budget.Counters().Snapshot() {
		if c.Verdict != message.Accept && c.N > 0 {
			out[c.Reason.String()] += c.N
		}
	}
	for _, p := range s.plugins {
		for _, c := range p.budget.Counters().Snapshot() {
			if c.Verdict != message.Accept && c.N > 0 {
				out[c.Reason.String()] += c.N
			}
		}
	}
	if stats.Overload > 0 {
		out["overload"] = stats.Overload
	}
	return out
}

func (h ShardHealth) reason(dLow int) string {
	stuck := slices.IndexFunc(h.Validators, func(v ValidatorHealth) bool { return v.Stuck >= maxStuck })
	switch {
	case h.Protected && h.Keys == 0:
		return "no key counts now: nothing passes until AddKey"
	case stuck >= 0:
		return fmt.Sprintf("validator %q doesn't answer: nothing passes", h.Validators[stuck].Name)
	case h.State == Sufficient:
		return ""
	case h.Light != nil:
		return h.Light.reason()
	case h.Peers == 0:
		return "no connected peer carries the shard"
	case h.Mesh == 0:
		return fmt.Sprintf("none of %d peers is in the mesh yet", h.Peers)
	}
	return fmt.Sprintf("%d of at least %d mesh peers", h.Mesh, dLow)
}

// summary names what is worst.
func (h Health) summary() string {
	if h.Paused {
		return "paused"
	}
	if h.Clock.Suspect {
		return "the clock seems to be " + clockWords(h.Clock.Offset)
	}
	if len(h.Shards) == 0 {
		return "no shard is joined"
	}
	if h.Peers == 0 {
		return "no peers" + h.whyNoPeers()
	}
	unreachable := h.NAT.unreachable()
	if a := h.Archive; a != nil && a.State != store.Ready {
		return fmt.Sprintf("the archive is %s: %s", a.State, a.Reason)
	}
	for _, s := range h.Shards {
		if s.Reason != "" && s.State == h.State {
			return fmt.Sprintf("shard %s: %s", s.Shard, s.Reason) + prefixed("; ", unreachable)
		}
	}
	for _, s := range h.Shards {
		if s.Reason != "" {
			return fmt.Sprintf("shard %s: %s", s.Shard, s.Reason)
		}
	}
	if unreachable != "" {
		return unreachable
	}
	return "all is well"
}

func (h Health) whyNoPeers() string {
	for _, s := range h.Static {
		if s.LastError != "" {
			return fmt.Sprintf(": static peer %s: %s", s.Peer, s.LastError)
		}
	}
	if why := h.Discovery.whyNoPeers(); why != "" {
		return why
	}
	if len(h.Disconnects) > 0 {
		d := h.Disconnects[0]
		return fmt.Sprintf(": the last one, %s: %s", d.Peer, d.Reason)
	}
	if len(h.Static) == 0 {
		return ": none was named, and nobody connected"
	}
	return " yet"
}
