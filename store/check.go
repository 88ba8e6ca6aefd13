package store

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/status-im/shoal/message"
)

// MaxFuture is how far ahead of an archive's clock a timestamp may be.
const MaxFuture = time.Hour

// CheckEntries returns an [*EntryError] for the first entry that an archive with
// this policy can't keep at this time.
func (p Policy) CheckEntries(entries []Entry, now time.Time) error {
	newest := now.Add(MaxFuture).UnixNano()
	for _, e := range entries {
		if err := p.checkEntry(e, now, newest); err != nil {
			return &EntryError{Hash: e.Hash, Err: err}
		}
	}
	return nil
}

func (p Policy) checkEntry(e Entry, now time.Time, newest int64) error {
	if err := e.Shard.Valid(); err != nil {
		return err
	}
	m := e.Message
	if m == nil {
		return message.ErrEmptyPayload
	}
	if err := m.Validate(); err != nil {
		return err
	}
	if err := m.CheckSize(message.LargeMaxSize); err != nil {
		return err
	}
	oldest, bounded := p.For(e.Shard).horizon(now)
	switch {
	case m.Ephemeral:
		return ErrEphemeral
	case m.Timestamp <= 0:
		return ErrNoTimestamp
	case m.Timestamp > newest:
		return ErrFuture
	case bounded && m.Timestamp < oldest:
		return ErrTooOld
	case m.Hash(e.Shard.PubsubTopic()) != e.Hash:
		return ErrHashMismatch
	}
	return nil
}

// Check says what is wrong with q, with a [*QueryError], or returns it normalised:
// its limit within bounds, and nothing in it twice.
func (q Query) Check() (Query, error) {
	fail := func(field, format string, args ...any) (Query, error) {
		return Query{}, &QueryError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	if q.Shard != nil {
		if err := q.Shard.Valid(); err != nil {
			return fail("Shard", "%v is no shard", *q.Shard)
		}
	}
	q.ContentTopics, q.Hashes = unique(q.ContentTopics), unique(q.Hashes)
	switch {
	case len(q.ContentTopics) > MaxContentTopics:
		return fail("ContentTopics", "are %d, at most %d are allowed", len(q.ContentTopics), MaxContentTopics)
	case len(q.Hashes) > MaxHashes:
		return fail("Hashes", "are %d, at most %d are allowed", len(q.Hashes), MaxHashes)
	case slices.Contains(q.ContentTopics, ""):
		return fail("ContentTopics", "contain an empty one")
	case len(q.ContentTopics) > 0 && len(q.Hashes) > 0:
		return fail("Hashes", "can't be combined with content topics")
	case len(q.Hashes) > 0 && !(q.Start.IsZero() && q.End.IsZero()):
		return fail("Hashes", "can't be combined with a time range")
	case len(q.ContentTopics) > 0 && q.Shard == nil:
		return fail("ContentTopics", "need a shard")
	case !inRange(q.Start):
		return fail("Start", "is out of range")
	case !inRange(q.End):
		return fail("End", "is out of range")
	case !q.Start.IsZero() && !q.End.IsZero() && q.Start.After(q.End):
		return fail("End", "is before Start")
	case q.Limit < 0:
		return fail("Limit", "is negative")
	case q.MaxBytes < 0:
		return fail("MaxBytes", "is negative")
	case q.Cursor != nil && *q.Cursor == message.Hash{}:
		return fail("Cursor", "is empty")
	}
	if q.Limit == 0 {
		q.Limit = DefaultPageSize
	}
	q.Limit = min(q.Limit, MaxPageSize)
	return q, nil
}

// inRange tells whether t can be told in Unix nanoseconds.
func inRange(t time.Time) bool {
	return t.IsZero() || !t.Before(time.Unix(0, math.MinInt64)) && !t.After(time.Unix(0, math.MaxInt64))
}

// Bounds are the query's times in Unix nanoseconds: from start on and before end.
func (q Query) Bounds() (start, end int64) {
	start, end = math.MinInt64, math.MaxInt64
	if !q.Start.IsZero() {
		start = q.Start.UnixNano()
	}
	if !q.End.IsZero() {
		end = q.End.UnixNano()
	}
	return start, end
}

// unique drops what is there twice and keeps the order.
func unique[T comparable](list []T) []T {
	seen := make(map[T]struct{}, len(list))
	var out []T
	for _, x := range list {
		if _, double := seen[x]; !double {
			seen[x] = struct{}{}
			out = append(out, x)
		}
	}
	return out
}
