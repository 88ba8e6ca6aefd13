package waku

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// Way is how bytes of messages went from peer to peer.
type Way uint8

// The ways: the protocols that carry messages.
const (
	WayRelay Way = iota
	WayFilter
	WayLightPush
	WayStore

	ways = 4
)

var wayWords = [ways]string{"relay", "filter", "lightpush", "store"}

// String returns "relay", "filter", "lightpush" or "store".
func (w Way) String() string {
	if w >= ways {
		return "unknown"
	}
	return wayWords[w]
}

// Traffic is what messages of one class on one shard cost by one way. Bytes are those of
// encoded messages, copies included, and 34 for each hash that a store named; what
// protocols say besides isn't counted.
type Traffic struct {
	Shard sharding.Shard
	Class Class
	Way   Way
	// Hour is when the hour began, by the node's clock; zero in a total.
	Hour                                       time.Time
	MessagesIn, MessagesOut, BytesIn, BytesOut uint64
}

// Telemetry is what messages cost a node.
type Telemetry struct {
	// Since is when counting began, At is now, by the node's clock.
	Since, At time.Time
	// Total is since then, Hours the last 48 hours in which there was any traffic, the
	// newest first. Both are in the order of shards, classes and ways.
	Total, Hours []Traffic
}

const (
	// keepHours is how many hours are told apart.
	keepHours = 48
	// hashBytes is what a hash takes in a store's answer.
	hashBytes = 34
)

type trafficKey struct {
	hour  int64 // since 1970; 0 in totals
	shard sharding.Shard
	class Class
	way   Way
}

// telemetry counts. The classes and topics that it knows are the application's, so that
// strangers can't make it grow.
type telemetry struct {
	now   func() time.Time
	since time.Time

	mu     sync.Mutex
	total  map[trafficKey]*Traffic
	hours  map[trafficKey]*Traffic
	oldest int64
	// classes are those of shards, topics those of content topics on a shard.
	classes map[sharding.Shard]Class
	topics  map[sharding.Shard]map[string]Class
}

func newTelemetry(now func() time.Time) *telemetry {
	return &telemetry{
		now: now, since: now(), total: map[trafficKey]*Traffic{}, hours: map[trafficKey]*Traffic{},
		classes: map[sharding.Shard]Class{}, topics: map[sharding.Shard]map[string]Class{},
	}
}

// learn takes note of a community's shards and routing.
func (t *telemetry) learn(c Community) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for class, id := range map[Class]*sharding.Shard{ClassControl: c.Control, ClassMedia: c.Media} {
		if id != nil {
			t.classes[*id] = class
		}
	}
	for topic, route := range c.Routing.Topics {
		id := c.Shard
		if route.Shard != nil {
			id = *route.Shard
		}
		if t.topics[id] == nil {
			t.topics[id] = map[string]Class{}
		}
		t.topics[id][topic] = route.Class
	}
}

// classOf is the class of what is on a shard, by its content topic. mu is held.
func (t *telemetry) classOf(id sharding.Shard, contentTopic func() string) Class {
	if c, ok := t.classes[id]; ok {
		return c
	}
	if topics := t.topics[id]; len(topics) > 0 {
		return topics[contentTopic()]
	}
	return ClassChat
}

// count notes that messages went in or out. Bytes are those of all of them.
func (t *telemetry) count(id sharding.Shard, way Way, contentTopic func() string, out bool, messages, bytes int) {
	if messages == 0 && bytes == 0 {
		return
	}
	hour := t.now().Unix() / 3600
	t.mu.Lock()
	defer t.mu.Unlock()
	k := trafficKey{shard: id, class: t.classOf(id, contentTopic), way: way}
	add(t.total, k, time.Time{}, out, messages, bytes)
	k.hour = hour
	add(t.hours, k, time.Unix(hour*3600, 0), out, messages, bytes)
	if hour-t.oldest >= keepHours || hour < t.oldest {
		maps.DeleteFunc(t.hours, func(k trafficKey, _ *Traffic) bool { return k.hour <= hour-keepHours || k.hour > hour })
		t.oldest = hour - keepHours + 1
		for k := range t.hours {
			t.oldest = min(t.oldest, k.hour)
		}
	}
}

func add(table map[trafficKey]*Traffic, k trafficKey, at time.Time, out bool, messages, bytes int) {
	x := table[k]
	if x == nil {
		x = &Traffic{Shard: k.shard, Class: k.class, Way: k.way, Hour: at}
		table[k] = x
	}
	if out {
		x.MessagesOut += uint64(messages)
		x.BytesOut += uint64(bytes)
	} else {
		x.MessagesIn += uint64(messages)
		x.BytesIn += uint64(bytes)
	}
}

func (t *telemetry) snapshot() Telemetry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Telemetry{Since: t.since, At: t.now(), Total: sortedTraffic(t.total), Hours: sortedTraffic(t.hours)}
}

func sortedTraffic(table map[trafficKey]*Traffic) []Traffic {
	var list []Traffic
	for _, x := range table {
		list = append(list, *x)
	}
	slices.SortFunc(list, func(a, b Traffic) int {
		return cmp.Or(b.Hour.Compare(a.Hour), compareShards(a.Shard, b.Shard), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Way, b.Way))
	})
	return list
}

// Telemetry returns what messages have cost the node, by shard and class. See
// [Telemetry.Report] for a terminal.
func (n *Node) Telemetry() Telemetry { return n.telemetry.snapshot() }

// relayed counts a copy of a message that relay got or gave.
func (t *telemetry) relayed(id sharding.Shard, data []byte, out bool) {
	t.count(id, WayRelay, func() string { return contentTopicOf(data) }, out, 1, len(data))
}

// message counts a message that went to, or came from, so many peers.
func (t *telemetry) message(id sharding.Shard, way Way, m *message.Message, out bool, peers int) {
	t.count(id, way, func() string { return m.ContentTopic }, out, peers, peers*m.Size())
}

// entries counts what a store gave. Hashes alone have the class of what was asked for.
func (t *telemetry) entries(id *sharding.Shard, page []store.Entry, topics []string, out bool) {
	asked := func() string {
		if len(topics) > 0 {
			return topics[0]
		}
		return ""
	}
	hashes := 0
	for _, e := range page {
		switch {
		case e.Message != nil:
			t.count(e.Shard, WayStore, func() string { return e.Message.ContentTopic }, out, 1, hashBytes+e.Message.Size())
		case id != nil:
			hashes++
		}
	}
	if hashes > 0 {
		t.count(*id, WayStore, asked, out, 0, hashes*hashBytes)
	}
}

// contentTopicOf reads an encoded message's content topic; empty if there is none.
func contentTopicOf(data []byte) string {
	for len(data) > 0 {
		field, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return ""
		}
		data = data[n:]
		if field == 2 && typ == protowire.BytesType {
			topic, _ := protowire.ConsumeString(data)
			return topic
		}
		if typ == protowire.StartGroupType {
			return ""
		}
		if n = protowire.ConsumeFieldValue(field, typ, data); n < 0 {
			return ""
		}
		data = data[n:]
	}
	return ""
}
