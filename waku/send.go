package waku

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

// SendOption changes how [Membership.Send] sends.
type SendOption func(*sendConfig)

type sendConfig struct {
	message *message.Message
	push    int
	// priority is the message's if urged; if not, its class's.
	priority Priority
	urged    bool
	// class is the message's, if classed; kind is Status's type of it.
	class   Class
	classed bool
	kind    *MessageType
	// segment and seal are those of SendLarge.
	segment int
	seal    func([]byte) ([]byte, error)
}

func newSendConfig(contentTopic string, payload []byte, opts []SendOption) sendConfig {
	c := sendConfig{message: &message.Message{ContentTopic: contentTopic, Payload: payload}, push: pushPeers}
	for _, opt := range opts {
		if opt != nil {
			opt(&c)
		}
	}
	return c
}

// Ephemeral asks store nodes not to keep the message: its delivery ends with Propagated.
func Ephemeral() SendOption { return func(c *sendConfig) { c.message.Ephemeral = true } }

// PayloadVersion sets the message's version field: 0, or 1 for payloads encrypted
// after 26/WAKU2-PAYLOAD.
func PayloadVersion(v uint32) SendOption { return func(c *sendConfig) { c.message.Version = v } }

// WithPriority sets which messages that wait leave before others. Default: that of the
// message's class, [PriorityChat] for [ClassChat], [PriorityHistory] for [ClassMedia] and
// [PriorityControl] for [ClassControl].
func WithPriority(p Priority) SendOption {
	return func(c *sendConfig) { c.priority, c.urged = min(p, priorities-1), true }
}

// PushTo sets how many service peers a light member's message goes to at once,
// instead of two. One that fails is replaced by another.
func PushTo(peers int) SendOption { return func(c *sendConfig) { c.push = max(1, peers) } }

// Send gives a payload to the community: it stamps and signs a message and puts it in
// the queue of what is to leave. It returns at once; the [Delivery] says what becomes of
// the message: it leaves as soon as somebody is there to take it, and is sent again until
// a store node has it, or its time is over ([WithDelivery]). This node's own readers get
// it when it leaves, and those of a relaying member also when nobody is there yet. The
// payload isn't kept. A light member's message goes to two service peers, and to others
// if those fail.
//
// Errors: [ErrNoSigningKey], *[ClockError], *message.TooLargeError, the errors of
// message.Validate and message.Strict, *sharding.TopicError for a content topic
// that a protected shard doesn't take, *[QueueFullError], [ErrPaused], one
// that is net.ErrClosed after Leave or Close, and ctx's, which bounds this call alone.
func (m *Membership) Send(ctx context.Context, contentTopic string, payload []byte, opts ...SendOption) (*Delivery, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if _, err := m.shard.node.gate.enter(ctx); err != nil {
		return nil, cmp.Or(m.alive(), err)
	}
	cfg := newSendConfig(contentTopic, payload, opts)
	msg := cfg.message
	if by, err := m.carrier(contentTopic, &cfg); err != nil {
		return nil, err
	} else if by != m {
		return by.Send(ctx, contentTopic, payload, append(slices.Clone(opts), OfClass(cfg.class))...)
	}
	if !cfg.urged {
		cfg.priority = classPriority[cfg.class]
	}
	if err := msg.Validate(); err != nil {
		return nil, err
	}
	if err := msg.Strict(); err != nil {
		return nil, err
	}
	if err := m.finish(msg); err != nil {
		return nil, err
	}
	if err := msg.CheckSize(m.shard.node.relay.MaxMessageSize()); err != nil {
		return nil, err
	}
	return m.shard.outbox.add(m, msg.Clone(), cfg)
}

// finish stamps a message and, on a protected shard, signs it.
func (m *Membership) finish(msg *message.Message) error {
	s := m.shard
	if !s.protected.Load() {
		msg.Timestamp = s.node.stamp().UnixNano()
		return nil
	}
	if err := checkContentTopic(msg.ContentTopic); err != nil {
		return err
	}
	if clock := s.node.clock.health(); clock.Suspect {
		return &ClockError{Offset: clock.Offset}
	}
	m.signing.RLock()
	defer m.signing.RUnlock()
	if m.signer == nil {
		return fmt.Errorf("%w on shard %s: join with waku.SignWith(key), or call SetSigner", ErrNoSigningKey, s.shard)
	}
	stamp := s.node.stamp()
	if !isValid(s.keys.Valid(stamp), m.signer.PublicKey()) {
		return fmt.Errorf("%w on shard %s: key %s doesn't count at this time: call SetSigner or Rotate with one that does",
			ErrNoSigningKey, s.shard, m.signer.PublicKey())
	}
	msg.Timestamp = stamp.UnixNano()
	return m.signer.Sign(s.topic, msg)
}

func isValid(keys []*dosguard.PublicKey, key *dosguard.PublicKey) bool {
	for _, k := range keys {
		if k.Equal(key) {
			return true
		}
	}
	return false
}

// checkContentTopic asks for the one form that protected shards take.
func checkContentTopic(topic string) error {
	t, err := sharding.ParseContentTopic(topic)
	if err != nil {
		return err
	}
	if t.Explicit {
		return &sharding.TopicError{
			Kind: sharding.ErrContentTopic, Text: topic,
			Reason: "on a protected shard it must have exactly four parts: leave the generation out",
		}
	}
	return nil
}

// sendError says in this package's words why relay didn't publish.
func (m *Membership) sendError(msg *message.Message, err error, by *refusal) error {
	var refused *relay.RefusedError
	switch {
	case errors.Is(err, relay.ErrNotSubscribed):
		return errLeft
	case !errors.As(err, &refused):
		return err
	}
	return m.shard.refusalOf(msg, refused, by)
}

// refusalOf says why relay refused to publish a message.
func (s *shard) refusalOf(msg *message.Message, refused *relay.RefusedError, by *refusal) *RefusedError {
	e := &RefusedError{Shard: s.shard, Verdict: refused.Verdict, Reason: by.String()}
	if e.Reason == "" {
		e.Reason = "the shard's " + refused.Stage
		if why := s.signed.Verify(s.topic, msg, true); why != nil && s.protected.Load() {
			e.Reason += " (" + strings.TrimPrefix(why.Error(), "dosguard: message refused: ") + ")"
		}
	}
	return e
}

// stampLead is how far stamps may run ahead of the clock to stay unique; further
// means that the clock was set back, and stamps follow it.
const stampLead = time.Second

// stamp returns the time, never the same twice, and later each time unless the
// clock is set back.
func (n *Node) stamp() time.Time {
	n.stamps.Lock()
	defer n.stamps.Unlock()
	t := n.cfg.now().Round(0)
	if lead := n.lastStamp.Sub(t); lead >= 0 && lead < stampLead {
		t = n.lastStamp.Add(1)
	}
	n.lastStamp = t
	return t
}
