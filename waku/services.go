package waku

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

const (
	// overtakeLook and overtakeLooks are how long a message that passes for a replay
	// may be about to come by the mesh.
	overtakeLook  = 20 * time.Millisecond
	overtakeLooks = 10
)

// feedBuffer is how many messages may wait for the filter service.
const feedBuffer = 4096

// openServices begins to serve light members, if options say so, and to be one.
func (n *Node) openServices() {
	if cfg := n.cfg.filterService; cfg != nil {
		c := *cfg
		c.Carries = n.relaysTopic
		n.filterServer = filter.NewServer(n.host, c)
		n.onClose(n.filterServer.Close)
	}
	if cfg := n.cfg.lightPushService; cfg != nil {
		c := *cfg
		c.MaxMessageSize = n.cfg.network.MaxMessageSize
		n.pushServer = lightpush.NewServer(n.host, n.relayFor, c)
		n.onClose(n.pushServer.Close)
	}
	n.filterClient = filter.NewClient(n.host, filter.ClientConfig{
		OnPush:         n.pushed,
		Timeout:        lightAnswer,
		MaxMessageSize: n.cfg.network.MaxMessageSize,
		OnFailure: func(p peer.ID, err error) {
			n.cfg.logger.Debug("filter: a push stream failed", "peer", p, "err", line(err))
		},
	})
	n.onClose(n.filterClient.Close)
	n.pushClient = lightpush.NewClient(n.host, lightpush.ClientConfig{MaxMessageSize: n.cfg.network.MaxMessageSize})
	// What isn't urgent has a line of its own, so that chat never waits in it, and takes
	// so little that servers have room for chat.
	n.slowPushClient = lightpush.NewClient(n.host, lightpush.ClientConfig{
		MaxMessageSize: n.cfg.network.MaxMessageSize, Burst: 6, LegacyRate: 0.2,
	})
}

// relaysTopic tells whether the node is in the mesh of a pubsub topic.
func (n *Node) relaysTopic(pubsubTopic string) bool {
	id, err := sharding.ParsePubsubTopic(pubsubTopic)
	return err == nil && n.relays(id)
}

func (n *Node) relays(id sharding.Shard) bool {
	s := n.shards.get(id)
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds > 0
}

// filterFeed gives a shard's messages to the subscribers of the filter service.
type filterFeed struct{ sub *relay.Subscription }

// beginFilter begins the feed, with the shard's mesh. mu is held.
func (s *shard) beginFilter() error {
	server := s.node.filterServer
	if server == nil || s.feed != nil {
		return nil
	}
	sub, err := s.node.relay.Subscribe(s.shard, relay.SubscribeConfig{Buffer: feedBuffer, Passive: true, Service: true})
	if err != nil {
		return err
	}
	s.feed = &filterFeed{sub}
	s.node.tasks.start(func(ctx context.Context) {
		for {
			env, err := sub.Next(ctx)
			var loss *relay.LossError
			switch {
			case err == nil:
				subscribers := server.Push(s.topic, env.Message)
				s.node.telemetry.message(s.shard, WayFilter, env.Message, true, subscribers)
			case errors.As(err, &loss):
				s.node.cfg.logger.Warn("filter: the service was too slow", "shard", s.shard, "lost", loss.Count)
			default:
				return
			}
		}
	})
	return nil
}

// endFilter ends the feed. mu is held.
func (s *shard) endFilter() {
	if s.feed != nil {
		_ = s.feed.sub.Close() // always nil
		s.feed = nil
	}
}

// relayFor publishes what a light member pushes.
func (n *Node) relayFor(ctx context.Context, from peer.ID, id sharding.Shard, m *message.Message) (int, error) {
	s := n.shards.get(id)
	if s == nil || !n.relays(id) {
		return 0, lightpush.Refuse(lightpush.StatusUnsupportedPubsubTopic, "this node doesn't relay shard "+id.String())
	}
	peers := len(n.relay.Peers(id))
	if peers == 0 {
		return 0, lightpush.Refuse(lightpush.StatusNoPeersToRelay, "no relay peers on shard "+id.String())
	}
	n.telemetry.message(id, WayLightPush, m, false, 1)
	hash := m.Hash(s.topic)
	if _, known := n.relay.Delivered(id, hash); known {
		return peers, nil // the mesh has it
	}
	noting, refusal := withRefusal(ctx)
	rc, err := n.relay.Publish(noting, id, m)
	var (
		refused  *relay.RefusedError
		tooLarge *message.TooLargeError
	)
	switch {
	case errors.As(err, &tooLarge):
		return 0, lightpush.Refuse(lightpush.StatusPayloadTooLarge, err.Error())
	case errors.As(err, &refused) && refused.Verdict == message.Ignore && n.overtaken(ctx, id, hash):
		return peers, nil
	case errors.As(err, &refused):
		return 0, lightpush.Refuse(lightpush.StatusInvalidMessage, s.refusalOf(m, refused, refusal).Reason)
	case errors.Is(err, relay.ErrNotSubscribed):
		return 0, lightpush.Refuse(lightpush.StatusUnsupportedPubsubTopic, "this node doesn't relay shard "+id.String())
	case err != nil:
		return 0, err
	case rc.Duplicate:
		return peers, nil
	case rc.Peers == 0:
		return 0, lightpush.Refuse(lightpush.StatusNoPeersToRelay, "no relay peers on shard "+id.String())
	}
	return rc.Peers, nil
}

// overtaken tells whether the mesh brings a message that is being pushed, by another
// service peer: in the validators the later of the two passes for a replay.
func (n *Node) overtaken(ctx context.Context, id sharding.Shard, h message.Hash) bool {
	for range overtakeLooks {
		if _, known := n.relay.Delivered(id, h); known {
			return true
		}
		if !pause(ctx, overtakeLook, nil) {
			break
		}
	}
	return false
}
