package waku

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// EventKind says what an [Event] is about.
type EventKind uint8

// The kinds of events.
const (
	// PeerConnected: Peer proved to belong to this network.
	PeerConnected EventKind = iota + 1
	// PeerDisconnected: the last connection to Peer ended; Reason, if known.
	PeerDisconnected
	// PeerRejected: Peer was turned away; Reason says why.
	PeerRejected
	// PeerCut: Peer was disconnected for what it sent; it may come back in ten
	// minutes.
	PeerCut
	// ShardHealthChanged: State is Shard's new state, Count its mesh size, or the
	// number of service peers of a light member.
	ShardHealthChanged
	// KeyAdded: Key, in hex, counts on Shard from now on, or from its time on.
	KeyAdded
	// KeyExpired: Key, in hex, no longer counts on Shard.
	KeyExpired
	// MessagesLost: a reader of Shard has begun to lose messages.
	MessagesLost
	// ValidatorTrouble: a plugged-in validator of Shard panicked, timed out, or
	// has too many calls that never came back to be asked any more; Reason names
	// it. Told at most once a minute for each.
	ValidatorTrouble
	// ClockJumped: the node's clock was set, or the machine slept; Offset is by
	// how much.
	ClockJumped
	// ClockSuspect: the network disagrees with the node's clock; Offset is how far
	// its time is ahead.
	ClockSuspect
	// ClockOK: the network agrees with the node's clock again.
	ClockOK
	// ArchiveStateChanged: the archive of WithArchive is in the state Archive;
	// Reason says why it isn't Ready.
	ArchiveStateChanged
	// StorePeerLeft: Peer gave an answer that can't be true and isn't asked for
	// history for half an hour; Reason says what was wrong.
	StorePeerLeft
	// ServicePeerLeft: Peer pushed a message on Shard that isn't genuine, was
	// disconnected, and serves no light member here for half an hour; Reason says
	// what was wrong.
	ServicePeerLeft
	// NodePaused: what [Node.Pause] asked for is done.
	NodePaused
	// NodeResumed: what [Node.Resume] asked for is under way: calls work again.
	NodeResumed
	// ReachabilityChanged: whether others can reach the node ([WithNAT]) is now
	// Reachability; Reason says why.
	ReachabilityChanged
	// CircuitReserved: others can reach the node through Peer from now on.
	CircuitReserved
	// CircuitLost: they can't any more; Reason says why.
	CircuitLost
	// RendezvousRegistered: the node is registered with Peer for Shard. Told once,
	// not with every renewal.
	RendezvousRegistered
	// PeersFound: the rendezvous point Peer named Count peers of Shard that weren't
	// known.
	PeersFound
	// CircuitConnected: a circuit with Peer stands; Reason is its address. It is not
	// a connection yet that counts.
	CircuitConnected
	// HolePunched: what began as a circuit with Peer is a direct connection now;
	// Reason is its address and how long that took.
	HolePunched
	// HolePunchFailed: no direct connection with Peer came of a circuit; Reason says
	// why.
	HolePunchFailed
	// LightFallback: Shard, which the application wants relayed, is served by filter
	// and light push until it has a mesh; Count is 1 when that begins, and 0 when the
	// mesh serves it again.
	LightFallback
	// DeliveryLate: the message Hash on Shard was propagated ten seconds ago, and no
	// store node was found to have it yet; Reason, if known.
	DeliveryLate
	// DeliveryFailed: the delivery of Hash on Shard ended as Delivery says, Failed or
	// Expired; Reason says why. It isn't told where there was no store node to ask.
	DeliveryFailed
	// DeliveriesUnfinished: Close left Count deliveries unfinished; see
	// [Node.Deliveries].
	DeliveriesUnfinished
	// GapOpen: of Shard messages from From to To may be missing, and couldn't be read back
	// from a store node for a minute; Reason says why both. It is tried again unless there
	// was more than [WithGapLimits] allows.
	GapOpen
	// GapFilled: what was published on Shard from From to To has been read back from a
	// store node.
	GapFilled
	// EventsLost: this reader of events was too slow, Count events are missing
	// here.
	EventsLost
)

var eventWords = [...]string{
	PeerConnected:       "peer connected",
	PeerDisconnected:    "peer disconnected",
	PeerRejected:        "peer rejected",
	PeerCut:             "peer cut",
	ShardHealthChanged:  "shard health changed",
	KeyAdded:            "key added",
	KeyExpired:          "key expired",
	MessagesLost:        "messages lost",
	ValidatorTrouble:    "validator in trouble",
	ClockJumped:         "clock jumped",
	ClockSuspect:        "clock suspect",
	ClockOK:             "clock ok",
	ArchiveStateChanged: "archive state changed",
	StorePeerLeft:       "store peer left",
	ServicePeerLeft:     "service peer left",
	NodePaused:          "node paused",
	NodeResumed:         "node resumed",

	ReachabilityChanged:  "reachability changed",
	CircuitReserved:      "circuit reserved",
	CircuitLost:          "circuit lost",
	RendezvousRegistered: "registered for rendezvous",
	PeersFound:           "peers found by rendezvous",
	CircuitConnected:     "circuit connected",
	HolePunched:          "hole punched",
	HolePunchFailed:      "hole punch failed",
	LightFallback:        "light fallback",
	GapOpen:              "messages may be missing",
	GapFilled:            "gap filled",

	DeliveryLate:         "delivery late",
	DeliveryFailed:       "delivery failed",
	DeliveriesUnfinished: "deliveries unfinished",

	EventsLost: "events lost",
}

// String returns the kind in words.
func (k EventKind) String() string {
	if k == 0 || int(k) >= len(eventWords) {
		return fmt.Sprintf("event %d", uint8(k))
	}
	return eventWords[k]
}

// Event is something that happened to a node. Fields that don't apply to the kind
// are zero.
type Event struct {
	Kind EventKind
	// At is the node's clock.
	At      time.Time
	Peer    peer.ID
	Shard   sharding.Shard
	State   State
	Key     string
	Offset  time.Duration
	Count   int
	Archive store.State
	// Reachability is set with ReachabilityChanged.
	Reachability Reachability
	// Hash and Delivery are set with what is about deliveries.
	Hash     message.Hash
	Delivery DeliveryState
	// From and To are set with GapOpen and GapFilled.
	From, To time.Time
	Reason   string
}

// String returns the event as a line for people.
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	switch e.Kind {
	case ShardHealthChanged:
		fmt.Fprintf(&b, ": shard %s is %s (peers: %d)", e.Shard, e.State, e.Count)
	case KeyAdded, KeyExpired:
		fmt.Fprintf(&b, ": shard %s, key %s", e.Shard, e.Key)
	case MessagesLost, ValidatorTrouble, ServicePeerLeft:
		fmt.Fprintf(&b, ": shard %s", e.Shard)
	case GapOpen, GapFilled:
		fmt.Fprintf(&b, ": shard %s, from %s to %s UTC", e.Shard, e.From.UTC().Format(time.DateTime), e.To.UTC().Format(time.DateTime))
	case ClockJumped:
		fmt.Fprintf(&b, ": by %v", e.Offset.Round(time.Millisecond))
	case ClockSuspect:
		fmt.Fprintf(&b, ": it seems to be %s", clockWords(e.Offset))
	case ArchiveStateChanged:
		fmt.Fprintf(&b, ": %s", e.Archive)
	case ReachabilityChanged:
		fmt.Fprintf(&b, ": %s", e.Reachability)
	case RendezvousRegistered:
		fmt.Fprintf(&b, ": shard %s", e.Shard)
	case PeersFound:
		fmt.Fprintf(&b, ": %d of shard %s", e.Count, e.Shard)
	case LightFallback:
		state := "ended"
		if e.Count > 0 {
			state = "begun"
		}
		fmt.Fprintf(&b, ": shard %s: %s", e.Shard, state)
	case DeliveryLate:
		fmt.Fprintf(&b, ": shard %s, message %s", e.Shard, e.Hash)
	case DeliveryFailed:
		fmt.Fprintf(&b, ": shard %s, message %s is %s", e.Shard, e.Hash, e.Delivery)
	case DeliveriesUnfinished:
		fmt.Fprintf(&b, ": %d", e.Count)
	case EventsLost:
		fmt.Fprintf(&b, ": %d", e.Count)
	}
	if e.Peer != "" {
		fmt.Fprintf(&b, ": %s", e.Peer)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Reason)
	}
	return b.String()
}

// eventBuffer is how many events are held for one reader.
const eventBuffer = 256

// Events iterates over what happens from now on, until ctx ends or the node is
// closed. Of a reader that falls behind the oldest events are dropped, and an
// EventsLost takes their place. The sequence can be ranged over once; if it never
// is, ending ctx frees it.
func (n *Node) Events(ctx context.Context) iter.Seq[Event] {
	r := n.events.subscribe(ctx)
	return func(yield func(Event) bool) {
		defer n.events.unsubscribe(r)
		for {
			e, ok := r.take()
			if ok {
				if ctx.Err() != nil || !yield(e) {
					return
				}
				continue
			}
			select {
			case <-r.wake:
			case <-r.done:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// eventHub hands events to readers. It never waits for one.
type eventHub struct {
	mu      sync.Mutex
	readers map[*eventReader]struct{}
	closed  bool
}

// eventReader's queue is guarded by the hub.
type eventReader struct {
	hub   *eventHub
	queue []Event
	lost  int
	wake  chan struct{}
	done  chan struct{}
	stop  func() bool // ends waiting for the reader's context
	ended bool
}

func (h *eventHub) subscribe(ctx context.Context) *eventReader {
	r := &eventReader{hub: h, wake: make(chan struct{}, 1), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	r.stop = context.AfterFunc(ctx, func() { h.unsubscribe(r) })
	if h.closed {
		r.end()
		return r
	}
	if h.readers == nil {
		h.readers = map[*eventReader]struct{}{}
	}
	h.readers[r] = struct{}{}
	return r
}

func (h *eventHub) unsubscribe(r *eventReader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.readers, r)
	r.queue = nil
	r.end()
}

// end lets the reader finish what is queued and stop. The hub's mu is held.
func (r *eventReader) end() {
	if !r.ended {
		r.ended = true
		r.stop()
		close(r.done)
	}
}

func (h *eventHub) emit(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	for r := range h.readers {
		if len(r.queue) >= eventBuffer {
			r.queue = append(r.queue[:0], r.queue[1:]...)
			r.lost++
		}
		r.queue = append(r.queue, e)
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

func (r *eventReader) take() (Event, bool) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	switch {
	case r.lost > 0 && len(r.queue) > 0:
		e := Event{Kind: EventsLost, At: r.queue[0].At, Count: r.lost}
		r.lost = 0
		return e, true
	case len(r.queue) == 0:
		return Event{}, false
	}
	e := r.queue[0]
	r.queue = r.queue[1:]
	return e, true
}

// close ends all readers; what is queued for them can still be read.
func (h *eventHub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for r := range h.readers {
		r.end()
	}
	clear(h.readers)
}

// emit stamps an event and hands it out.
func (n *Node) emit(e Event) {
	e.At = n.cfg.now()
	n.events.emit(e)
}
