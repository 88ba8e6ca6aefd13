package filter

import (
	"context"
	"crypto/rand"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/sharding"
)

// A subscription for many content topics takes several requests: ninety topics each
// are below everybody's limit of a hundred, thirty are what go-waku v0.9 takes, and
// the text of one is at most so many bytes.
const (
	manyTopics = 90
	fewTopics  = 30
	maxText    = 48 << 10
)

// Subscribe asks p to push the messages on a shard that have one of the content
// topics; those asked for before remain. When there are many it takes several
// requests, and as many turns; at the first error it stops, and what was granted
// until then remains.
//
// Errors, of this and the other requests: [ErrTopics] and sharding's when nothing
// was asked; the context's; net.ErrClosed; an [*ExchangeError] when there was no
// answer, and a [*StatusError] when there was a refusal.
func (c *Client) Subscribe(ctx context.Context, p peer.ID, s sharding.Shard, contentTopics []string) error {
	topics, err := checkTopics(s, contentTopics)
	if err != nil {
		return err
	}
	pubsub := s.PubsubTopic()
	return c.turn(ctx, p, func(ctx context.Context) error {
		return c.inParts(ctx, p, pubsub, topics, func(part []string) error {
			// The first push may be here before the answer.
			added := c.hold(p, pubsub, part)
			err := c.request(ctx, p, request{kind: subscribe, pubsubTopic: pubsub, contentTopics: part})
			if err != nil {
				c.drop(p, pubsub, added)
			}
			return err
		})
	})
}

// Unsubscribe asks p to push no more messages of these content topics on a shard.
// Whatever comes of it, they aren't taken any more. ErrNotSubscribed means that p
// had nothing for us on that shard.
func (c *Client) Unsubscribe(ctx context.Context, p peer.ID, s sharding.Shard, contentTopics []string) error {
	topics, err := checkTopics(s, contentTopics)
	if err != nil {
		return err
	}
	pubsub := s.PubsubTopic()
	return c.turn(ctx, p, func(ctx context.Context) error {
		c.drop(p, pubsub, topics)
		return c.inParts(ctx, p, pubsub, topics, func(part []string) error {
			return c.request(ctx, p, request{kind: unsubscribe, pubsubTopic: pubsub, contentTopics: part})
		})
	})
}

// UnsubscribeAll asks p to push no more. Whatever comes of it, nothing is taken from
// p any more. ErrNotSubscribed means that there was nothing.
func (c *Client) UnsubscribeAll(ctx context.Context, p peer.ID) error {
	return c.turn(ctx, p, func(ctx context.Context) error {
		c.dropAll(p)
		return c.request(ctx, p, request{kind: unsubscribeAll})
	})
}

// Ping asks p whether we are subscribed there, to anything, and keeps it so. The
// answer no is ErrNotSubscribed; then subscribe anew.
func (c *Client) Ping(ctx context.Context, p peer.ID) error {
	return c.turn(ctx, p, func(ctx context.Context) error {
		return c.request(ctx, p, request{kind: ping})
	})
}

// checkTopics returns the content topics, each once.
func checkTopics(s sharding.Shard, topics []string) ([]string, error) {
	if err := s.Valid(); err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(topics))
	var once []string
	for _, t := range topics {
		if t == "" || len(t) > MaxTopicLen || !utf8.ValidString(t) {
			return nil, ErrTopics
		}
		if !seen[t] {
			seen[t] = true
			once = append(once, t)
		}
	}
	if len(once) == 0 {
		return nil, ErrTopics
	}
	return once, nil
}

// inParts calls f for parts of topics that fit into a request: smaller ones once the
// peer can't make sense of a large one.
func (c *Client) inParts(ctx context.Context, p peer.ID, pubsub string, topics []string, f func([]string) error) error {
	most := manyTopics
	for len(topics) > 0 {
		n := fits(topics, most)
		err := f(topics[:n])
		var status *StatusError
		if n > fewTopics && errors.As(err, &status) && status.Code == StatusBadRequest {
			most = fewTopics
			continue
		}
		if err != nil {
			return err
		}
		topics = topics[n:]
	}
	return nil
}

func fits(topics []string, most int) int {
	text := 0
	for i, t := range topics {
		if text += len(t); i == most || i > 0 && text > maxText {
			return i
		}
	}
	return len(topics)
}

// request has one exchange with p, which is this call's turn.
func (c *Client) request(ctx context.Context, p peer.ID, r request) error {
	if err := c.pause(ctx, p); err != nil {
		return err
	}
	c.stats.requests.Add(1)
	r.id = rand.Text()
	b, err := reqresp.Do(withDial(ctx), c.host, p, SubscribeID, reqresp.Config{
		Service:     Service,
		MaxResponse: maxResponse,
		FirstByte:   c.cfg.Timeout,
		Total:       c.cfg.Timeout,
	}, r.append(nil))
	err = answer(p, r.id, b, err)

	c.mu.Lock()
	defer c.mu.Unlock()
	l, now := &c.contact(p).line, time.Now()
	var status *StatusError
	if errors.As(err, &status) && status.Code == StatusTooManyRequests {
		l.refused(now, status.RetryAfter)
	} else {
		l.asked(now, c.cfg)
	}
	return err
}

// answer says what an exchange came to.
func answer(p peer.ID, id string, b []byte, err error) error {
	if err != nil {
		return exchangeError(p, err)
	}
	r, err := decodeResponse(b)
	switch {
	case err != nil:
		return &ExchangeError{Peer: p, Code: StatusBadResponse, Err: err}
	case !r.answers(id):
		return &ExchangeError{Peer: p, Code: StatusBadResponse, Err: wire.Malformed("an answer to another request")}
	case !r.code.success():
		return newStatusError(p, r.code, r.desc)
	}
	return nil
}

// exchangeError turns an error of reqresp.Do into ours.
func exchangeError(p peer.ID, err error) error {
	var (
		e        *reqresp.Error
		tooLarge *wire.FrameTooLargeError
	)
	switch {
	case errors.Is(err, reqresp.ErrUnsupported):
		return &ExchangeError{Peer: p, Code: StatusPeerDialFailure, Err: ErrUnsupported}
	case errors.Is(err, wire.ErrBadVarint), errors.As(err, &tooLarge):
		errors.As(err, &e)
		return &ExchangeError{Peer: p, Code: StatusBadResponse, Err: wire.Malformed("%v", e.Err)}
	}
	return &ExchangeError{Peer: p, Code: StatusPeerDialFailure, Err: err}
}
