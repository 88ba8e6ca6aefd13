package waku

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// ErrNoSigningKey is what Send's error is, by errors.Is, on a protected shard that
// was joined without SignWith, or whose key no longer counts.
var ErrNoSigningKey = errors.New("waku: no key to sign with")

// ErrNoKey is what the error is, by errors.Is, of joining a protected shard
// without any key.
var ErrNoKey = errors.New("waku: no key for a protected shard")

// ErrNoStorePeer is what History's error is, by errors.Is, when no connected peer
// keeps the shard's messages.
var ErrNoStorePeer = errors.New("waku: no store node")

// ErrTopicsNeeded is what the error is, by errors.Is, of a light member's reader of
// all content topics: service peers push topic by topic.
var ErrTopicsNeeded = errors.New("waku: a light member's readers must name their content topics")

// ErrNoServicePeer is what the error is, by errors.Is, when no connected peer serves
// a light member.
var ErrNoServicePeer = errors.New("waku: no service peer")

// ErrPaused is what the error is, by errors.Is, of calls that need the network
// between [Node.Pause] and [Node.Resume].
var ErrPaused = errors.New("waku: the node is paused")

var (
	errNodeClosed   = fmt.Errorf("waku: node: %w", net.ErrClosed)
	errLeft         = fmt.Errorf("waku: membership: %w", net.ErrClosed)
	errReaderClosed = fmt.Errorf("waku: reader: %w", net.ErrClosed)
)

// OptionError names an option that [New] can't follow, or two that contradict each
// other.
type OptionError struct {
	// Options are the names, such as "WithHost".
	Options []string
	// Err says what is wrong and what to do.
	Err error
}

// Error implements error.
func (e *OptionError) Error() string {
	return fmt.Sprintf("waku: %s: %v", strings.Join(e.Options, " and "), e.Err)
}

// Unwrap returns Err.
func (e *OptionError) Unwrap() error { return e.Err }

// ConflictError is returned by Join for terms that contradict those on which the
// shard is carried already.
type ConflictError struct {
	Shard sharding.Shard
	// Asked and Have describe both terms.
	Asked, Have string
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("waku: shard %s: this Join asks for %s, but the shard is %s", e.Shard, e.Asked, e.Have)
}

// LossError tells a reader that messages were dropped because it read too slowly. Those that
// a store node has come again as soon as there is room.
type LossError struct {
	Shard sharding.Shard
	// Count is the number of messages lost since the last LossError.
	Count uint64
}

// Error implements error.
func (e *LossError) Error() string {
	return fmt.Sprintf("waku: shard %s: reader too slow, %d messages lost", e.Shard, e.Count)
}

// ClockError is returned by Send on a protected shard while the network disagrees
// with the node's clock: others would drop the message as too old, or as from the
// future.
type ClockError struct {
	// Offset is how far the network's time is ahead of the node's.
	Offset time.Duration
}

// Error implements error.
func (e *ClockError) Error() string {
	return fmt.Sprintf("waku: the clock seems to be %s: set it, others would drop what is sent", clockWords(e.Offset))
}

// clockWords says what an offset means for the clock that is off.
func clockWords(offset time.Duration) string {
	if offset < 0 {
		return fmt.Sprintf("%v fast", -offset.Round(time.Second))
	}
	return fmt.Sprintf("%v slow", offset.Round(time.Second))
}

// PeerErrorKind is what became of an attempt to connect with a peer.
type PeerErrorKind uint8

// The kinds of PeerError.
const (
	// PeerUnreachable: no connection came about. Nobody is there, or not in time.
	PeerUnreachable PeerErrorKind = iota + 1
	// PeerRelayed: only a relayer leads there, and nothing better came of it.
	PeerRelayed
	// PeerForeign: the peer belongs to another network, or what it says of itself
	// makes no sense.
	PeerForeign
	// PeerSilent: the peer doesn't say which network it belongs to, or not in time.
	PeerSilent
	// PeerBarred: this node has cut the peer, and keeps away from it.
	PeerBarred
	// PeerLost: there was a connection, and it ended again.
	PeerLost
)

// String returns a word or two.
func (k PeerErrorKind) String() string {
	words := [...]string{"", "unreachable", "behind a relayer", "of another network", "silent", "barred", "lost"}
	if k == 0 || int(k) >= len(words) {
		return fmt.Sprintf("PeerErrorKind(%d)", uint8(k))
	}
	return words[k]
}

// PeerError is returned by Connect for a peer that can't be reached or kept.
type PeerError struct {
	Peer peer.ID
	Kind PeerErrorKind
	// Reason is a sentence, such as "peer is on cluster 1, ours is 16".
	Reason string
	Err    error // the cause, if there is one
}

// Error implements error.
func (e *PeerError) Error() string { return fmt.Sprintf("waku: peer %s: %s", e.Peer, e.Reason) }

// Unwrap returns Err.
func (e *PeerError) Unwrap() error { return e.Err }

// RefusedError is why a message wasn't delivered that the shard's own rules don't
// accept: other nodes wouldn't either.
type RefusedError struct {
	Shard   sharding.Shard
	Verdict message.Verdict
	// Reason names what refused.
	Reason string
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("waku: shard %s: message refused (%s) by %s", e.Shard, e.Verdict, e.Reason)
}

// SendError is why a light member's message wasn't delivered: no service peer took it.
type SendError struct {
	Shard sharding.Shard
	// Err joins what the service peers said; errors.As finds
	// *lightpush.StatusError in it. It is [ErrNoServicePeer] if there was none.
	Err error
}

// Error implements error.
func (e *SendError) Error() string {
	return fmt.Sprintf("waku: shard %s: nobody took the message: %s", e.Shard, line(e.Err))
}

// Unwrap returns Err.
func (e *SendError) Unwrap() error { return e.Err }

// HistoryError is why a history couldn't be read to its end. The message before
// it was the last one that was read.
type HistoryError struct {
	Shard sharding.Shard
	// Peer is the store node asked last, if there was one.
	Peer peer.ID
	Err  error
}

// Error implements error.
func (e *HistoryError) Error() string {
	return fmt.Sprintf("waku: shard %s: history: %s", e.Shard, line(e.Err))
}

// Unwrap returns Err.
func (e *HistoryError) Unwrap() error { return e.Err }

// line puts what libraries say on several lines into one.
func line(err error) string {
	words := strings.Fields(err.Error())
	return strings.Join(words, " ")
}
