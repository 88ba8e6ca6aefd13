package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/status-im/shoal/sharding"
)

// Retention bounds what is kept. Zero values don't.
type Retention struct {
	// MaxAge is how old a message may become, by its timestamp.
	MaxAge time.Duration
	// MaxMessages is how many are kept.
	MaxMessages int64
	// MaxBytes is the sum of the messages' encoded sizes. The room on the disk
	// is larger: for messages of 2 KiB about 1.2 times in SQLite and 1.6 times in
	// PostgreSQL.
	MaxBytes int64
}

// Policy says how long messages are kept. The oldest always go first.
type Policy struct {
	// Default applies to each shard that has no entry in Shards.
	Default Retention
	// Shards applies to single shards, in place of Default.
	Shards map[sharding.Shard]Retention
	// Total applies to all shards together, in addition.
	Total Retention
}

// For is the retention of one shard, Total's age included.
func (p Policy) For(s sharding.Shard) Retention {
	r, ok := p.Shards[s]
	if !ok {
		r = p.Default
	}
	if t := p.Total.MaxAge; t > 0 && (r.MaxAge == 0 || t < r.MaxAge) {
		r.MaxAge = t
	}
	return r
}

// Bucket counts the messages of a shard in a stretch of time.
type Bucket struct {
	Shard sharding.Shard
	// Start and End bound the timestamps, in Unix nanoseconds: from Start on and
	// before End. Buckets of different shards have the same bounds or don't
	// overlap.
	Start, End      int64
	Messages, Bytes int64
}

// Cut says which messages are too many: all before Before, and then the oldest
// of those that remain, until Messages are gone and Bytes of them as well.
type Cut struct {
	Before          int64 // Unix nanoseconds
	Messages, Bytes int64
}

// Cuts says what the bounds on number and size ask for, given what is kept; age is
// not considered. It returns a cut for each shard that has too much, and one for
// all shards together, which counts on the shards' cuts having been made. No cut
// takes more than it must.
//
// What is left of a bucket in which a shard's cut ends isn't known here and taken
// for nothing, so the total may ask for too little. Asked again when the shards'
// cuts have been made, Cuts is exact.
func (p Policy) Cuts(kept []Bucket) (shards map[sharding.Shard]Cut, total Cut) {
	byShard := map[sharding.Shard][]Bucket{}
	for _, b := range kept {
		byShard[b.Shard] = append(byShard[b.Shard], b)
	}
	shards = map[sharding.Shard]Cut{}
	var rest []Bucket
	for s, buckets := range byShard {
		c := p.For(s).cut(buckets)
		if c != (Cut{}) {
			shards[s] = c
		}
		rest = append(rest, c.apply(buckets)...)
	}
	return shards, p.Total.cut(rest)
}

// cut drops whole stretches of time while what is left still reaches a bound, and
// leaves the rest to be counted out in the next one.
func (r Retention) cut(buckets []Bucket) Cut {
	slices.SortFunc(buckets, func(a, b Bucket) int { return cmp.Compare(a.Start, b.Start) })
	var c Cut
	for _, b := range buckets {
		c.Messages += b.Messages
		c.Bytes += b.Bytes
	}
	excess := func(have, limit int64) int64 {
		if limit <= 0 {
			return 0
		}
		return max(0, have-limit)
	}
	c.Messages, c.Bytes = excess(c.Messages, r.MaxMessages), excess(c.Bytes, r.MaxBytes)
	for len(buckets) > 0 {
		n, messages, bytes := 0, int64(0), int64(0)
		for n < len(buckets) && buckets[n].Start == buckets[0].Start {
			messages += buckets[n].Messages
			bytes += buckets[n].Bytes
			n++
		}
		if c.Messages < messages && c.Bytes < bytes || c.Messages == 0 && c.Bytes == 0 {
			break
		}
		// This much is too much by one bound at least.
		c.Before = buckets[0].End
		c.Messages, c.Bytes = max(0, c.Messages-messages), max(0, c.Bytes-bytes)
		buckets = buckets[n:]
	}
	return c
}

// apply is what a cut leaves for certain of buckets in their order.
func (c Cut) apply(buckets []Bucket) []Bucket {
	before := func(end int64) {
		for len(buckets) > 0 && buckets[0].End <= end {
			buckets = buckets[1:]
		}
	}
	before(c.Before)
	if len(buckets) > 0 && (c.Messages > 0 || c.Bytes > 0) {
		before(buckets[0].End)
	}
	return buckets
}

// horizon is the oldest timestamp that r keeps, in Unix nanoseconds.
func (r Retention) horizon(now time.Time) (int64, bool) {
	if r.MaxAge <= 0 {
		return 0, false
	}
	return now.Add(-r.MaxAge).UnixNano(), true
}
