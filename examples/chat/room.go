package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"time"

	"github.com/status-im/shoal/waku"
)

// room is one chat: a node, its membership of the community, and a topic.
type room struct {
	name, topic string
	node        *waku.Node
	member      *waku.Membership
}

// enter starts a node and joins the community.
func enter(ctx context.Context, s *settings) (*room, error) {
	options := append(s.finding.options(),
		waku.WithListenAddrs(s.listen...),
		waku.WithStaticPeers(s.connect...),
		waku.WithUserAgent("shoal-chat"))
	if s.nat {
		options = append(options, waku.WithNAT(), waku.WithPortMapping())
	}
	node, err := waku.New(ctx, options...)
	if err != nil {
		return nil, inFlags(err)
	}
	community := waku.Community{Shard: s.shard}
	var join []waku.JoinOption
	if s.key != nil {
		community.PublicKey = s.key.PublicKey()
		join = append(join, waku.SignWith(s.key))
	}
	if s.light {
		join = append(join, waku.AsLight())
	}
	member, err := node.Join(ctx, community, join...)
	if err != nil {
		return nil, errors.Join(err, node.Close())
	}
	return &room{name: s.name, topic: s.topic, node: node, member: member}, nil
}

func (r *room) leave() error { return r.node.Close() }

// say sends a line and returns what becomes of it.
func (r *room) say(ctx context.Context, text string) (iter.Seq[waku.DeliveryStatus], error) {
	d, err := r.member.Send(ctx, r.topic, encode(payload{Name: r.name, Text: text}))
	if err != nil {
		return nil, err
	}
	return d.Changes(ctx), nil
}

// tell sends a line and waits until somebody has it, but not for long.
func (r *room) tell(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	d, err := r.member.Send(ctx, r.topic, encode(payload{Name: r.name, Text: text}))
	if err != nil {
		return err
	}
	return d.Wait(ctx, waku.Propagated)
}

// heard is a line that somebody else said.
type heard struct {
	payload
	at time.Time // the sender's clock, but not later than ours
}

// hear iterates over what others say, and over how many of their messages were
// lost because we were too slow.
func (r *room) hear(ctx context.Context) iter.Seq2[heard, uint64] {
	messages := r.member.Messages(ctx, r.topic)
	return func(yield func(heard, uint64) bool) {
		for env, err := range messages {
			var lost *waku.LossError
			switch {
			case errors.As(err, &lost):
				if !yield(heard{}, lost.Count) {
					return
				}
				continue
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil || env.From == r.node.PeerID():
				continue
			}
			p, err := decode(env.Message.Payload)
			if err != nil {
				continue // another program's, on the same topic
			}
			at := time.Unix(0, env.Message.Timestamp)
			if at.After(env.ReceivedAt) {
				at = env.ReceivedAt
			}
			if !yield(heard{p, at}, 0) {
				return
			}
		}
	}
}

// status is what the header tells.
type status struct {
	peers   int
	way     string // by which messages come and go, such as "mesh 3"
	ready   bool   // somebody can hear us
	trouble string // empty: none
	why     string // of the trouble, in a sentence
	links   []string
}

func (r *room) status() status {
	h := r.node.Health()
	s := status{peers: h.Peers}
	joining := false
	for _, shard := range h.Shards {
		s.ready, s.way = shard.State != waku.Unhealthy, fmt.Sprintf("mesh %d", shard.Mesh)
		joining = shard.Peers > 0
		if shard.Mode == waku.ModeLight {
			s.way, joining = servicePeers(shard.Light), false
		}
		if len(shard.Gaps) > 0 {
			s.way += ", reading back"
		}
	}
	for _, p := range r.node.Peers() {
		s.links = append(s.links, p.ID.ShortString())
	}
	switch {
	case h.Clock.Suspect:
		s.trouble = fmt.Sprintf("this computer's clock seems to be %v off", h.Clock.Offset.Round(time.Second))
	case s.ready:
		return s
	case joining:
		s.trouble = "joining …"
	default:
		s.trouble = h.Summary
		for _, p := range h.Static {
			if s.peers == 0 && p.LastError != "" {
				s.trouble = p.LastError
			}
		}
	}
	s.trouble, s.why = clean(s.trouble, 200), clean(h.Summary, 400)
	return s
}

// servicePeers counts those that a light member can rely on.
func servicePeers(h *waku.LightHealth) string {
	n := 0
	for _, p := range h.ServicePeers {
		if !p.Suspect {
			n++
		}
	}
	if n == 1 {
		return "1 service peer"
	}
	return fmt.Sprintf("%d service peers", n)
}

// ready waits until a message would reach somebody, or ctx ends.
func (r *room) ready(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := r.node.Events(ctx)
	if r.status().ready {
		return true
	}
	for range events {
		if r.status().ready {
			return true
		}
	}
	return false
}
