package postgres

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

const (
	messagesTable = "shoal_messages"
	timesTable    = "shoal_times"

	// timesPerPartition is how many partitions of messages share one of times, at
	// least: a hash is looked for in all of these. Nor is one of them shorter than
	// a day, because places are remembered so long.
	timesPerPartition = 7
	// ahead is how many partitions of messages are made before their time.
	ahead = 3
	// oldSuffix names the partition of all that is older than the grid.
	oldSuffix = "old"
)

// grid is how time is cut into partitions. Partition number n of messages holds
// the timestamps from n×width on and before (n+1)×width; with a width of a day,
// the number counts days since 1970. One of times is several times as wide.
// What is older than the partition numbered origin has one partition of its own,
// so that whoever puts messages of a thousand different years makes no thousand
// tables.
type grid struct {
	width  int64 // ns
	origin int64 // a multiple of timesPer
}

// timesPer is how many partitions of messages share one of times.
func (g grid) timesPer() int64 {
	return max(timesPerPartition, (int64(remembered)+g.width-1)/g.width)
}

func newGrid(width time.Duration, now time.Time) grid {
	g := grid{width: int64(width)}
	oldest := floorDiv(now.UnixNano(), g.width) - manyPartitions
	g.origin = floorDiv(oldest, g.timesPer()) * g.timesPer()
	return g
}

// partition is a table that holds a stretch of time, in Unix nanoseconds, from
// start on and before end.
type partition struct {
	parent     string
	name       string
	start, end int64
}

// span is the partition with a number of a parent.
func (g grid) span(parent string, number int64) partition {
	w := g.widthOf(parent)
	return partition{parent, parent + "_" + strconv.FormatInt(number, 10), number * w, (number + 1) * w}
}

func (g grid) widthOf(parent string) int64 {
	if parent == timesTable {
		return g.width * g.timesPer()
	}
	return g.width
}

// old is a parent's partition of all that is older than the grid.
func (g grid) old(parent string) partition {
	return partition{parent, parent + "_" + oldSuffix, math.MinInt64, g.origin * g.width}
}

// holding is the partition of a parent that a timestamp belongs in.
func (g grid) holding(parent string, ts int64) partition {
	if ts < g.origin*g.width {
		return g.old(parent)
	}
	return g.span(parent, floorDiv(ts, g.widthOf(parent)))
}

// first are the partitions to begin with.
func (g grid) first(now time.Time) []partition {
	return append([]partition{g.old(messagesTable), g.old(timesTable)}, g.soon(now)...)
}

// soon are the partitions needed now and next.
func (g grid) soon(now time.Time) []partition {
	var list []partition
	ts := now.UnixNano()
	for n := floorDiv(ts, g.width); len(list) <= ahead; n++ {
		list = append(list, g.span(messagesTable, n))
	}
	last := list[len(list)-1]
	w := g.widthOf(timesTable)
	for n := floorDiv(ts, w); n*w < last.end; n++ {
		list = append(list, g.span(timesTable, n))
	}
	return list
}

// parse is the partition that a table's name says.
func (g grid) parse(parent, name string) (partition, bool) {
	suffix, ok := strings.CutPrefix(name, parent+"_")
	if !ok {
		return partition{}, false
	}
	if suffix == oldSuffix {
		return g.old(parent), true
	}
	n, err := strconv.ParseInt(suffix, 10, 64)
	if err != nil {
		return partition{}, false
	}
	return g.span(parent, n), true
}

// contains tells whether a timestamp belongs in p.
func (p partition) contains(ts int64) bool { return p.start <= ts && ts < p.end }

// floors says from which timestamp on something is kept: for known shards, and
// for any other.
type floors struct {
	shards map[int32]int64
	others int64
}

// ageFloors are the floors that a policy's ages set.
func ageFloors(p store.Policy, now time.Time) floors {
	f := floors{shards: make(map[int32]int64), others: horizon(p.For(unlisted(p)), now)}
	for s := range p.Shards {
		f.shards[shardKey(s)] = horizon(p.For(s), now)
	}
	return f
}

// unlisted is a shard to which the policy's default applies.
func unlisted(p store.Policy) sharding.Shard {
	for index := uint16(0); ; index++ {
		s := sharding.Shard{Cluster: math.MaxUint16, Index: index}
		if _, listed := p.Shards[s]; !listed {
			return s
		}
	}
}

// horizon is the oldest timestamp that is kept.
func horizon(r store.Retention, now time.Time) int64 {
	if r.MaxAge <= 0 {
		return math.MinInt64
	}
	return now.Add(-r.MaxAge).UnixNano()
}

// of is the floor of one shard.
func (f floors) of(shard int32) int64 {
	if at, ok := f.shards[shard]; ok {
		return at
	}
	return f.others
}

// lowest is the floor that holds for every shard.
func (f floors) lowest() int64 {
	low := f.others
	for _, at := range f.shards {
		low = min(low, at)
	}
	return low
}

// expired are the partitions that hold nothing but what is below every floor. The
// one of now and those after it are never among them, whatever the floors.
func expired(list []partition, f floors, now time.Time) []partition {
	var out []partition
	for _, p := range list {
		if p.end <= f.lowest() && p.end <= now.UnixNano() {
			out = append(out, p)
		}
	}
	return out
}

// longest is the longest age that a policy allows for some shard.
func longest(p store.Policy) (age time.Duration, bounded bool) {
	age = p.For(unlisted(p)).MaxAge
	bounded = age > 0
	for s := range p.Shards {
		r := p.For(s)
		age, bounded = max(age, r.MaxAge), bounded && r.MaxAge > 0
	}
	return age, bounded
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
