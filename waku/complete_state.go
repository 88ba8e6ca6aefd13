package waku

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
)

const (
	// savePeriod is how often is saved up to when all is there: after a crash, what was
	// delivered since may come again.
	savePeriod = 30 * time.Second
	// maxSaved is how many messages are remembered in all across a restart, and
	// maxSavedTopics how many content topics of a shard.
	maxSaved       = 1 << 18
	maxSavedTopics = 4096
)

// savedState is what a later run has to know.
type savedState struct {
	Key    []byte
	Shards []savedShard
}

// savedShard is a shard's part. Times are in Unix nanoseconds, Had are pairs of a sum and
// a timestamp.
type savedShard struct {
	Shard     string
	Topics    map[string]int64
	Gaps      []savedGap
	Had       []byte
	Forgotten int64
}

type savedGap struct {
	Topics         []string
	From, To, Done int64
	Why            string
}

// loadMarks reads what an earlier run knew.
func (n *Node) loadMarks(ctx context.Context) {
	defer close(n.marksLoaded)
	n.marks = map[sharding.Shard]savedShard{}
	var s savedState
	if b := n.state.load(ctx, stateComplete); b != nil {
		if err := json.Unmarshal(b, &s); err != nil {
			n.cfg.logger.Warn("what an earlier run knew of messages can't be read", "err", line(err))
			s = savedState{}
		}
	}
	if copy(n.memoryKey[:], s.Key) < len(n.memoryKey) {
		_, _ = rand.Read(n.memoryKey[:])
		return
	}
	for _, x := range s.Shards {
		if id, err := sharding.ParseShard(x.Shard); err == nil && len(x.Topics) <= 3*maxSavedTopics && len(x.Had) <= 16*maxSaved {
			n.marks[id] = x
		}
	}
}

// recall waits for what an earlier run knew of the shard.
func (b *gapBook) recall() {
	n := b.shard.node
	<-n.marksLoaded
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.recalled {
		return
	}
	b.recalled = true
	saved, ok := n.marks[b.shard.shard]
	if !ok {
		return
	}
	now := n.cfg.now()
	var newest int64
	m := relay.Memory{Forgotten: min(saved.Forgotten, now.UnixNano())}
	for had := saved.Had; len(had) >= 16; had = had[16:] {
		x := relay.Known{Sum: binary.LittleEndian.Uint64(had), Timestamp: int64(binary.LittleEndian.Uint64(had[8:]))}
		m.Had = append(m.Had, x)
		if x.Timestamp <= now.UnixNano() {
			newest = max(newest, x.Timestamp)
		}
	}
	for name, at := range saved.Topics {
		if at > now.UnixNano() { // by a clock that was ahead
			saved.Topics[name] = cmp.Or(newest, now.UnixNano())
		}
	}
	for i, g := range saved.Gaps {
		if g.Done > now.UnixNano() {
			saved.Gaps[i].Done = 0
		}
	}
	saved.Had = nil
	n.relay.Recall(b.shard.shard, m)
	n.relay.Remember(b.shard.shard, true)
	b.saved = saved
}

// resume returns from when on messages of a topic may be missing because of an earlier
// run's end; once. mu is held.
func (b *gapBook) resume(name string) (moment, bool) {
	n := b.shard.node
	for i, g := range b.saved.Gaps {
		if slices.Contains(g.Topics, name) {
			b.saved.Gaps[i].Topics = slices.DeleteFunc(slices.Clone(g.Topics), func(t string) bool { return t == name })
			b.add(&gap{
				topics: map[string]moment{name: {}}, from: n.momentAt(time.Unix(0, g.From)), to: n.momentAt(time.Unix(0, g.To)),
				done: unixOrZero(g.Done), why: g.Why,
			})
		}
	}
	at, ok := b.saved.Topics[name]
	if !ok {
		return moment{}, false
	}
	delete(b.saved.Topics, name)
	mark := n.momentAt(time.Unix(0, at))
	b.resumed[name] = mark.before(2 * n.cfg.window)
	return mark, true
}

// resumeLight is resume for the light members' part.
func (b *gapBook) resumeLight(name string) (moment, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.resume(name)
}

func unixOrZero(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// save is what a later run has to know of the shard.
func (b *gapBook) save() (s savedShard, ok bool) {
	n := b.shard.node
	now := n.moment()
	light := b.shard.light.openSince()
	read := b.shard.read()
	b.mu.Lock()
	defer b.mu.Unlock()
	s = savedShard{Shard: b.shard.shard.String(), Topics: map[string]int64{}}
	maps.Copy(s.Topics, b.saved.Topics)
	b.noteRead(read, now)
	s.Gaps = slices.DeleteFunc(slices.Clone(b.saved.Gaps), func(g savedGap) bool { return len(g.Topics) == 0 })
	for name, asked := range read {
		var at time.Time
		if t, ok := light[name]; ok {
			at = t
		} else if t := b.topics[name]; t == nil {
			at = n.earliest(asked)
		} else if !t.covered {
			at = n.earliest(t.open)
		} else {
			at = n.earliest(b.proof)
		}
		if !b.suspect.mono.IsZero() && n.earliest(b.suspect).Before(at) {
			at = n.earliest(b.suspect)
		}
		s.Topics[name] = at.UnixNano()
	}
	maps.Copy(s.Topics, b.closed)
	if len(s.Topics) == 0 {
		return s, false
	}
	for _, g := range b.gaps {
		x := savedGap{Topics: slices.Sorted(maps.Keys(g.topics)), From: n.earliest(g.from).UnixNano(), To: n.latest(g.to).UnixNano(), Why: g.why}
		if !g.done.IsZero() {
			x.Done = g.done.UnixNano()
		}
		s.Gaps = append(s.Gaps, x)
	}
	first := now.wall.UnixNano()
	for _, at := range s.Topics {
		first = min(first, at)
	}
	for _, g := range s.Gaps {
		first = min(first, g.From)
	}
	since := time.Unix(0, first).Add(-2 * n.cfg.window)
	m := n.relay.Memory(b.shard.shard, since)
	for topic, at := range m.Unread {
		for _, name := range []string{topic, allTopics} {
			if t, ok := s.Topics[name]; ok && at <= t {
				s.Topics[name] = at - 1
			}
		}
	}
	s.Forgotten = max(m.Forgotten, since.UnixNano()-1) // a clock that is set may ask for older ones
	slices.SortFunc(m.Had, func(x, y relay.Known) int { return cmp.Compare(y.Timestamp, x.Timestamp) })
	if len(m.Had) > maxSaved {
		s.Forgotten = max(s.Forgotten, m.Had[maxSaved].Timestamp)
		m.Had = m.Had[:maxSaved]
	}
	for _, x := range m.Had {
		s.Had = binary.LittleEndian.AppendUint64(s.Had, x.Sum)
		s.Had = binary.LittleEndian.AppendUint64(s.Had, uint64(x.Timestamp))
	}
	return s, true
}

// saveMarks has saved what a later run has to know.
func (n *Node) saveMarks() {
	if n.cfg.state == nil {
		return
	}
	<-n.marksLoaded
	s := savedState{Key: n.memoryKey[:]}
	seen := map[sharding.Shard]bool{}
	for _, x := range n.shards.all() {
		seen[x.shard] = true
		x.gaps.recall()
		if saved, ok := x.gaps.save(); ok {
			s.Shards = append(s.Shards, saved)
		}
	}
	for id, x := range n.marks {
		if !seen[id] {
			s.Shards = append(s.Shards, x)
		}
	}
	if len(s.Shards) == 0 {
		return
	}
	if b, err := json.Marshal(s); err == nil {
		n.state.save(stateComplete, b)
	}
}

// freeze ends delivery and saves what a later run has to know.
func (n *Node) freeze() {
	if n.cfg.state == nil || n.relay == nil {
		return
	}
	n.relay.Freeze()
	n.saveMarks()
}

// keepMarks saves now and then.
func (n *Node) keepMarks(ctx context.Context) {
	for n.gate.rest(ctx, savePeriod, nil) {
		n.saveMarks()
	}
}
