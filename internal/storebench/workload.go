package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

const (
	payloadSize = 2 << 10
	topicCount  = 1000
	// hot and cold topics are asked for ten at a time.
	asked = store.MaxContentTopics
	page  = store.MaxPageSize
)

var shard = sharding.Shard{Cluster: sharding.StatusCluster, Index: 32}

// workload makes the messages: random payloads that nothing compresses, each with
// a signature's room in its meta, on topics whose frequencies follow Zipf's law.
// The message of a number is the same every time, so none need be remembered.
type workload struct {
	seed   uint64
	rows   int
	start  time.Time
	step   time.Duration // between messages
	topics []string      // the most frequent first
	below  []float64     // probability of a topic or of a more frequent one
}

func newWorkload(o options, now time.Time) *workload {
	span := time.Duration(o.days) * 24 * time.Hour
	// The oldest are to stay inside a retention of so many days during the run.
	w := &workload{seed: o.seed, rows: o.rows, start: now.Add(-span), step: span / time.Duration(o.rows)}
	sum := 0.0
	for i := range topicCount {
		w.topics = append(w.topics, fmt.Sprintf("/waku/1/0x%08x/rfc26", uint32(i+1)*2654435761))
		sum += 1 / float64(i+1)
		w.below = append(w.below, sum)
	}
	for i := range w.below {
		w.below[i] /= sum
	}
	return w
}

// entry is message number i of the data set. Times ascend with numbers.
func (w *workload) entry(i int) store.Entry {
	return w.make(i, w.start.Add(time.Duration(i)*w.step))
}

// live is message number i after the data set, from just now.
func (w *workload) live(i int) store.Entry {
	return w.make(w.rows+i, time.Now())
}

func (w *workload) make(i int, at time.Time) store.Entry {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], w.seed)
	binary.LittleEndian.PutUint64(seed[8:], uint64(i))
	random := rand.NewChaCha8(seed)
	b := make([]byte, payloadSize+message.MaxMetaLen)
	random.Read(b)
	at = at.Add(time.Duration(random.Uint64() % uint64(w.step)))
	place := sort.SearchFloat64s(w.below, float64(random.Uint64()>>11)/(1<<53))
	return store.NewEntry(shard, &message.Message{
		Payload:      b[:payloadSize:payloadSize],
		Meta:         b[payloadSize:],
		ContentTopic: w.topics[min(place, topicCount-1)],
		Timestamp:    at.UnixNano(),
	})
}

// entries are n messages from number i on.
func entries(from, n int, one func(int) store.Entry) []store.Entry {
	list := make([]store.Entry, n)
	for i := range list {
		list[i] = one(from + i)
	}
	return list
}

// questions of a kind, drawn with a generator of their own so that every system
// is asked the same.
type question struct {
	name string
	ask  func(*rand.Rand) store.Query
}

// hashes asks for n messages anywhere in the data set.
func (w *workload) hashes(n int) question {
	return question{fmt.Sprintf("%d hashes", n), func(r *rand.Rand) store.Query {
		q := store.Query{Limit: page}
		for range n {
			q.Hashes = append(q.Hashes, w.entry(r.IntN(w.rows)).Hash)
		}
		return q
	}}
}

// nothing is a question of the same kind that nothing in the data set answers.
func (w *workload) nothing(q store.Query) store.Query {
	if len(q.Hashes) > 0 {
		q.Hashes = []message.Hash{{}}
		return q
	}
	before := w.start.Sub(q.End) - 24*time.Hour
	q.Start, q.End = q.Start.Add(before), q.End.Add(before)
	return q
}

// times asks for a page, the newest first, of a stretch somewhere in the data set
// and ten topics: the most frequent, or any of the rarer half.
func (w *workload) times(long time.Duration, hot, data bool) question {
	temperature, what := "cold", "hashes only"
	if hot {
		temperature = "hot"
	}
	if data {
		what = "with data"
	}
	span := time.Duration(w.rows) * w.step
	long = min(long, span)
	name := fmt.Sprintf("%.0f h, %d %s topics, %s", long.Hours(), asked, temperature, what)
	return question{name, func(r *rand.Rand) store.Query {
		topics := w.topics[:asked]
		if !hot {
			topics = nil
			for len(topics) < asked {
				if t := w.topics[topicCount/2+r.IntN(topicCount/2)]; !slices.Contains(topics, t) {
					topics = append(topics, t)
				}
			}
		}
		start := w.start.Add(time.Duration(r.Int64N(int64(span-long) + 1)))
		return store.Query{
			Shard: &shard, ContentTopics: topics, Start: start, End: start.Add(long),
			Backward: true, Limit: page, HashesOnly: !data,
		}
	}}
}
