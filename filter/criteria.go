package filter

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

// criteria are content topics by pubsub topic.
type criteria map[string]map[string]struct{}

func (h criteria) has(pubsub, content string) bool {
	_, ok := h[pubsub][content]
	return ok
}

// only returns the one pubsub topic on which a content topic is held.
func (h criteria) only(content string) (pubsub string, ok bool) {
	for at, topics := range h {
		if _, held := topics[content]; held {
			if ok {
				return "", false
			}
			pubsub, ok = at, true
		}
	}
	return pubsub, ok
}

// hold notes what is wanted from p, and returns what of it is new.
func (c *Client) hold(p peer.ID, pubsub string, topics []string) (added []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.contact(p)
	if k.held == nil {
		k.held = make(criteria)
	}
	if k.held[pubsub] == nil {
		k.held[pubsub] = make(map[string]struct{})
	}
	for _, t := range topics {
		if !k.held.has(pubsub, t) {
			k.held[pubsub][t] = struct{}{}
			added = append(added, t)
		}
	}
	return added
}

// drop notes what isn't wanted from p any more.
func (c *Client) drop(p peer.ID, pubsub string, topics []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.contact(p)
	for _, t := range topics {
		delete(k.held[pubsub], t)
	}
	if len(k.held[pubsub]) == 0 {
		delete(k.held, pubsub)
	}
}

func (c *Client) dropAll(p peer.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.contact(p).held = nil
}

// Topics returns the content topics that the client takes from p on a shard: those
// it is subscribed to, as far as it knows. They are sorted.
func (c *Client) Topics(p peer.ID, s sharding.Shard) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var topics []string
	if k := c.contacts[p]; k != nil {
		for t := range k.held[s.PubsubTopic()] {
			topics = append(topics, t)
		}
	}
	slices.Sort(topics)
	return topics
}
