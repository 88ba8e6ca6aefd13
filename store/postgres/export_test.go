package postgres

import (
	"time"

	"github.com/status-im/shoal/store"
)

// Partition is a partition, for tests.
type Partition struct{ Start, End int64 }

// Expired are those of the partitions at some timestamps that a policy lets go.
func Expired(at []int64, p store.Policy, width time.Duration, now time.Time) (all, gone []Partition) {
	g := newGrid(width, now)
	seen := make(map[string]bool)
	var list []partition
	for _, ts := range at {
		x := g.holding(messagesTable, ts)
		if !seen[x.name] {
			seen[x.name] = true
			list = append(list, x)
			all = append(all, Partition{x.start, x.end})
		}
	}
	for _, x := range expired(list, ageFloors(p, now), now) {
		gone = append(gone, Partition{x.start, x.end})
	}
	return all, gone
}

// Holding is the partition for a timestamp of an archive that began then, and
// whether its name says the same.
func Holding(ts int64, width time.Duration, began time.Time, times bool) (Partition, bool) {
	parent := messagesTable
	if times {
		parent = timesTable
	}
	g := newGrid(width, began)
	x := g.holding(parent, ts)
	y, ok := g.parse(parent, x.name)
	return Partition{x.start, x.end}, ok && x == y
}

// TopicKey is how a content topic is indexed.
var TopicKey = topicKey
