package waku

import (
	"context"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

// Community is what [Node.Join] joins: a shard, and the keys that protect it.
type Community struct {
	// Shard must be one of the node's cluster.
	Shard sharding.Shard
	// PublicKey is the key that signs the shard's messages. Nil: the shard isn't
	// protected, unless Keys, Protected or the node's options say so.
	PublicKey *dosguard.PublicKey
	// Keys are further keys, with the times in which they count.
	Keys []CommunityKey
	// Protected says that the shard has a key even if this program doesn't know
	// it yet. Joining it then takes a key, or [AwaitKey].
	Protected bool
}

// CommunityKey is a key that counts for a while.
type CommunityKey struct {
	Key *dosguard.PublicKey
	// From and Until bound the time in which messages signed by Key are taken.
	// Zero: unbounded.
	From, Until time.Time
}

// JoinOption changes how [Node.Join] joins.
type JoinOption func(*joinConfig)

type joinConfig struct{}

// SignWith lets the membership send on a protected shard. The key's public half
// must be among the community's keys; if the community names none, it is the key.
func SignWith(key *dosguard.PrivateKey) JoinOption { return func(*joinConfig) {} }

// AsRelay takes part in the shard's relay mesh. It is the default.
func AsRelay() JoinOption { return func(*joinConfig) {} }

// WithBuffer sets how many messages are held for each reader of the membership.
// When a reader falls behind, the oldest are dropped, counted, and reported to it
// as a *[LossError]. Default: 1024.
func WithBuffer(messages int) JoinOption { return func(*joinConfig) {} }

// AwaitKey joins a protected shard whose key isn't known yet. Nothing is passed on
// or delivered until [Membership.AddKey].
func AwaitKey() JoinOption { return func(*joinConfig) {} }

// Join makes the node part of a community's shard, or of an unprotected one.
// Joining is quick and needs nobody else; messages flow when the mesh has formed,
// which [Health] tells. A shard can be joined several times, by parts of a
// program that don't know each other: the memberships share the shard, its keys
// and its replay memory, and each leaves for itself.
//
// The error says what is missing or wrong; a *[ConflictError] names what this
// Join asks for and what stands against it.
func (n *Node) Join(ctx context.Context, c Community, opts ...JoinOption) (*Membership, error) {
	return nil, errNotYet
}

// Membership is one part in a community. Its methods are safe for concurrent use.
type Membership struct{}

// Shard is the shard joined.
func (m *Membership) Shard() sharding.Shard { return sharding.Shard{} }

// SendOption changes how [Membership.Send] sends.
type SendOption func(*sendConfig)

type sendConfig struct{}

// Ephemeral asks store nodes not to keep the message.
func Ephemeral() SendOption { return func(*sendConfig) {} }

// PayloadVersion sets the message's version field: 0, or 1 for payloads encrypted
// after 26/WAKU2-PAYLOAD.
func PayloadVersion(v uint32) SendOption { return func(*sendConfig) {} }

// Delivery says what became of a sent message.
type Delivery struct {
	// Hash is the deterministic message hash (14/WAKU2-MESSAGE), by which stores
	// and readers know the message.
	Hash message.Hash
	// Timestamp is the one given to the message. It grows from message to message
	// of a node.
	Timestamp time.Time
	// Size is the encoded message's, in bytes.
	Size int
	// Peers is how many peers the message was handed to. Zero isn't an error: who
	// listens here has it, but nobody else.
	Peers int
	// LowMesh is true when that is fewer than a mesh needs: the message may not
	// get far.
	LowMesh bool
}

// Send gives a payload to the community: it stamps, signs and publishes a message,
// which this node's own readers get too. It returns when the message has been
// handed to peers.
//
// Errors: [ErrNoSigningKey], *[ClockError], *message.TooLargeError, the errors of
// message.Validate, *sharding.TopicError for a content topic that a protected
// shard doesn't take, *[RefusedError] if a plugged-in validator doesn't accept,
// one that is net.ErrClosed after Leave or Close, and ctx's.
func (m *Membership) Send(ctx context.Context, contentTopic string, payload []byte, opts ...SendOption) (*Delivery, error) {
	return nil, errNotYet
}

// Envelope is a message that passed the shard's rules.
type Envelope struct {
	// Shard is where it came from.
	Shard sharding.Shard
	// Message is shared by all readers: read it, don't change it.
	Message *message.Message
	// Hash is the deterministic message hash (14/WAKU2-MESSAGE).
	Hash message.Hash
	// From is the peer that handed the message over, not its author; this node's
	// own id for what it sent itself.
	From peer.ID
	// ReceivedAt is the node's clock when the message was accepted.
	ReceivedAt time.Time
}

// Messages iterates over messages of the given content topics, or of all if none
// is given, from now on: what arrives between this call and the loop isn't
// missed. A *[LossError] is yielded like a message and doesn't end the loop.
// Leave and Close end it with an error that is net.ErrClosed; when ctx ends it
// ends without one. The sequence can be ranged over once.
func (m *Membership) Messages(ctx context.Context, contentTopics ...string) iter.Seq2[*Envelope, error] {
	return func(func(*Envelope, error) bool) {}
}

// Subscribe returns a reader of the given content topics, or of all if none is
// given. Readers are independent of each other. Close it when done.
func (m *Membership) Subscribe(contentTopics ...string) (*Reader, error) { return nil, errNotYet }

// Reader gets a membership's messages. Its methods are safe for concurrent use.
type Reader struct{}

// Next waits for the next message. A *[LossError] reports messages lost since the
// last call and doesn't end the reader. After Close, Leave or Node.Close the error
// is net.ErrClosed.
func (r *Reader) Next(ctx context.Context) (*Envelope, error) { return nil, errNotYet }

// AddTopics adds content topics. On a reader of all topics it narrows to these.
func (r *Reader) AddTopics(contentTopics ...string) {}

// RemoveTopics removes content topics. When none is left nothing is delivered.
func (r *Reader) RemoveTopics(contentTopics ...string) {}

// Lost is how many messages the reader has lost so far.
func (r *Reader) Lost() uint64 { return 0 }

// Close ends the reader at once. It is idempotent.
func (r *Reader) Close() error { return nil }

// Leave ends the membership and its readers, at once, whether or not they read.
// The shard's mesh is left with its last membership; its keys and its memory stay,
// so that joining again opens no gap. It is idempotent.
func (m *Membership) Leave() error { return errNotYet }

// AddKey lets messages signed by key pass from from until until; zero times are
// unbounded. A key that is known already gets these bounds.
func (m *Membership) AddKey(key *dosguard.PublicKey, from, until time.Time) error { return errNotYet }

// ExpireKey ends a key's time at the given moment.
func (m *Membership) ExpireKey(key *dosguard.PublicKey, at time.Time) error { return errNotYet }

// RemoveKey ends a key's time now. Without any key left nothing passes.
func (m *Membership) RemoveKey(key *dosguard.PublicKey) error { return errNotYet }

// SetSigner changes the key that Send signs with. Its public half must be among
// the shard's valid keys. Nil: don't send any more.
func (m *Membership) SetSigner(key *dosguard.PrivateKey) error { return errNotYet }

// Rotate replaces the community's key without a gap: key signs from now on, its
// public half counts from now on, and every other key counts for overlap longer.
// Members who don't know the new key refuse what it signs, so let them AddKey it
// first.
func (m *Membership) Rotate(key *dosguard.PrivateKey, overlap time.Duration) error {
	return errNotYet
}

// Keys are the shard's keys, past and future ones included, in no order.
func (m *Membership) Keys() []CommunityKey { return nil }
