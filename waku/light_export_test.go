package waku

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrSilent ends a link to a peer that doesn't push.
var ErrSilent = errSilent

// Rests are the rests of a protocol's service peers on one shard.
type Rests struct{ r shardRests }

func NewRests(topic string) Rests {
	return Rests{(&restTable{gate: newGate(context.Background())}).on(topic)}
}

// On is the same table for another shard.
func (r Rests) On(topic string) Rests { return Rests{r.r.t.on(topic)} }

func (r Rests) Misled(p peer.ID) bool { return r.r.misled(p, errors.New("misled")) }

func (r Rests) Fail(p peer.ID, err error) { r.r.fail(p, err, 0) }

func (r Rests) Answered(p peer.ID) { r.r.answered(p) }

func (r Rests) Rest(p peer.ID) time.Duration {
	left, _ := r.r.rest(p)
	return left
}

func (r Rests) Ready(peers ...peer.ID) []peer.ID { return r.r.ready(peers) }

func (r Rests) Len() int { return len(r.r.t.failed) }

// EvictAll has a node's filter service forget all subscribers.
func EvictAll(n *Node) { n.filterServer.EvictAll() }
