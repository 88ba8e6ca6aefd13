package waku

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

const (
	stateOutbox = "outbox"
	// keepEvery is how often at most what is on its way is saved.
	keepEvery = time.Second
	// maxKept and maxKeptBytes bound how many deliveries outlive a restart, the most
	// urgent first, and their messages in all.
	maxKept = 1024
	// keptFor is how long a delivery is kept that nobody goes on with.
	keptFor      = 30 * 24 * time.Hour
	maxKeptBytes = 4 << 20
)

// keptDelivery is a delivery in the state store.
type keptDelivery struct {
	Shard    string       `json:"shard"`
	Message  []byte       `json:"message"`
	First    message.Hash `json:"first"`
	Priority Priority     `json:"priority,omitempty"`
	Push     int          `json:"push,omitempty"`
	// Tried says that somebody may have it, Propagated that somebody has.
	Tried      bool         `json:"tried,omitempty"`
	Propagated bool         `json:"propagated,omitempty"`
	Attempts   int          `json:"attempts,omitempty"`
	Peers      int          `json:"peers,omitempty"`
	LowMesh    bool         `json:"lowMesh,omitempty"`
	Accepted   []Acceptance `json:"accepted,omitempty"`
	To         []peer.ID    `json:"to,omitempty"`
	// Deadline is by the wall clock, in Unix seconds.
	Deadline int64 `json:"deadline"`
}

// openDeliveries takes on what an earlier run has left.
func (n *Node) openDeliveries(ctx context.Context) {
	if n.cfg.state == nil {
		return
	}
	if state := n.state.load(ctx, stateOutbox); state != nil {
		n.restoreAll(state)
	}
	n.tasks.start(func(ctx context.Context) {
		for {
			select {
			case <-n.outgoing.dirty:
			case <-ctx.Done():
				return
			}
			n.keepDeliveries(keepSoon)
			if !pause(ctx, keepEvery, nil) {
				return
			}
		}
	})
}

func (n *Node) restoreAll(state []byte) {
	var kept []keptDelivery
	if err := json.Unmarshal(state, &kept); err != nil {
		n.cfg.logger.Warn("the messages of the last run can't be read", "err", line(err))
	}
	n.outgoing.some = len(kept) > 0
	for _, k := range kept[:min(len(kept), maxKept)] {
		if err := n.restore(k); err != nil {
			n.cfg.logger.Warn("a message of the last run is dropped", "err", line(err))
		}
	}
}

// restore takes one delivery on, which waits until its shard is joined.
func (n *Node) restore(k keptDelivery) error {
	shard, err := sharding.ParseShard(k.Shard)
	if err == nil && shard.Cluster != n.cfg.network.Cluster {
		err = errors.New("it is on another network's shard")
	}
	if err != nil {
		return err
	}
	msg, err := message.Decode(k.Message)
	if err != nil {
		return err
	}
	if err := cmp.Or(msg.Validate(), msg.CheckSize(n.cfg.network.MaxMessageSize)); err != nil {
		return err
	}
	o := n.ensureShard(shard).outbox
	now := time.Now()
	size, hash := msg.Size(), msg.Hash(o.shard.topic)
	left := time.Unix(k.Deadline, 0).Sub(n.cfg.now())
	if left < -keptFor {
		return errors.New("its shard wasn't joined for too long")
	}
	d := &Delivery{
		Hash: k.First, Timestamp: time.Unix(0, msg.Timestamp), Size: size, box: o, changed: make(chan struct{}),
		job: job{
			msg: msg, push: max(1, k.Push), tried: k.Tried, kept: !k.Tried, handed: k.Tried && k.Propagated,
			deadline: now.Add(min(left, max(n.cfg.delivery.GiveUp, n.cfg.delivery.Confirm))),
			to:       map[peer.ID]time.Time{},
		},
		status: DeliveryStatus{
			Hash: hash, Shard: shard, ContentTopic: msg.ContentTopic, Priority: min(k.Priority, priorities-1),
			Attempts: max(0, k.Attempts), Peers: max(0, k.Peers), LowMesh: k.LowMesh, Accepted: k.Accepted,
		},
	}
	d.last = o.config().last(msg)
	for _, p := range k.To {
		d.job.to[p] = now
	}
	if err := n.outgoing.room(n.cfg.delivery, d.status.Priority, size); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.adopt(d)
	deadline := d.job.deadline
	if k.Propagated {
		o.propagated(d)
		d.job.deadline = deadline
	}
	if k.Tried {
		o.askSoon(d, now)
	}
	return nil
}

// joined gives a membership what an earlier run has left on its shard.
func (o *outbox) joined(m *Membership) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for d := range o.all {
		if d.job.member == nil {
			d.job.member, d.job.retry = m, now
			if least := now.Add(respite); d.job.deadline.Before(least) {
				d.job.deadline = least
			}
			o.soon(now)
		}
	}
	if len(o.all) > 0 {
		o.start()
	}
}

// keeping says how urgent it is to save what is on its way.
type keeping int

const (
	keepSoon keeping = iota
	keepNow          // it returns when it is saved
	keepLast         // nothing is saved afterwards
)

// keepDeliveries saves what is on its way, and returns what that is; nil after the last
// time.
func (n *Node) keepDeliveries(how keeping) map[*Delivery]bool {
	if n.cfg.state == nil {
		return nil
	}
	n.outgoing.saving.Lock()
	defer n.outgoing.saving.Unlock()
	if n.outgoing.over {
		return nil
	}
	n.outgoing.over = how == keepLast
	var all []*Delivery
	for _, s := range n.shards.all() {
		s.outbox.mu.Lock()
		for d := range s.outbox.all {
			if !d.status.Ephemeral {
				all = append(all, d)
			}
		}
		s.outbox.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b *Delivery) int {
		return cmp.Or(cmp.Compare(a.status.Priority, b.status.Priority), a.Timestamp.Compare(b.Timestamp))
	})
	kept := map[*Delivery]bool{}
	out := []keptDelivery{}
	bytes := 0
	for _, d := range all {
		if bytes+d.Size > maxKeptBytes || len(out) == maxKept {
			continue
		}
		if k, ok := d.keep(); ok {
			bytes += d.Size
			out = append(out, k)
			kept[d] = true
		}
	}
	if len(out) == 0 && !n.outgoing.some {
		return kept
	}
	n.outgoing.some = len(out) > 0
	value, err := json.Marshal(out)
	if err != nil {
		panic(err) // plain values can't fail
	}
	if how == keepNow {
		n.state.saveNow(stateOutbox, value)
	} else {
		n.state.save(stateOutbox, value)
	}
	return kept
}

// keep is the delivery as the state store has it.
func (d *Delivery) keep() (keptDelivery, bool) {
	o := d.box
	o.mu.Lock()
	defer o.mu.Unlock()
	j := &d.job
	if j.msg == nil {
		return keptDelivery{}, false
	}
	j.kept = !j.tried
	s := d.Status()
	k := keptDelivery{
		Shard: o.shard.shard.String(), Message: j.msg.Encode(), First: d.Hash, Priority: s.Priority, Push: j.push,
		Tried: j.tried, Propagated: s.State == Propagated, Attempts: s.Attempts, Peers: s.Peers, LowMesh: s.LowMesh,
		Accepted: s.Accepted, Deadline: o.node().cfg.now().Add(time.Until(j.deadline)).Unix(),
	}
	for p := range j.to {
		k.To = append(k.To, p)
	}
	slices.Sort(k.To)
	return k, true
}
