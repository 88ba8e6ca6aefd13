package sharding

import (
	"strconv"
	"strings"
)

// MaxIndex is the last shard of a cluster (51/WAKU2-RELAY-SHARDING).
const MaxIndex = 1023

// topicPrefix begins the pubsub topic of every static shard.
const topicPrefix = "/waku/2/rs/"

// Shard is one static shard: one gossipsub topic.
type Shard struct {
	// Cluster is the network that the shard belongs to.
	Cluster uint16
	// Index counts within the cluster, 0 to MaxIndex.
	Index uint16
}

// Valid returns an [*IndexError] if Index is above [MaxIndex].
func (s Shard) Valid() error {
	if s.Index > MaxIndex {
		return &IndexError{Index: int(s.Index)}
	}
	return nil
}

// maxPair is the length of 65535/1023, with room for an index that isn't valid.
const maxPair = 5 + 1 + 5

// PubsubTopic returns the gossipsub topic, /waku/2/rs/<cluster>/<index>.
func (s Shard) PubsubTopic() string {
	b := make([]byte, 0, len(topicPrefix)+maxPair)
	return string(s.appendIndex(s.appendCluster(append(b, topicPrefix...))))
}

// String returns <cluster>/<index>, such as 16/128. [ParseShard] reads it.
func (s Shard) String() string {
	return string(s.appendIndex(s.appendCluster(make([]byte, 0, maxPair))))
}

func (s Shard) appendCluster(b []byte) []byte {
	return append(strconv.AppendUint(b, uint64(s.Cluster), 10), '/')
}

func (s Shard) appendIndex(b []byte) []byte {
	return strconv.AppendUint(b, uint64(s.Index), 10)
}

// ParsePubsubTopic reads the pubsub topic of a static shard. Exactly what
// [Shard.PubsubTopic] writes is accepted: numbers in another form, 032 say,
// would be another gossipsub topic. Named topics are not shards. The error is a
// [*TopicError] of kind [ErrPubsubTopic].
func ParsePubsubTopic(topic string) (Shard, error) {
	rest, ok := strings.CutPrefix(topic, topicPrefix)
	if !ok {
		return Shard{}, &TopicError{ErrPubsubTopic, topic, "must begin with " + topicPrefix}
	}
	s, reason := parsePair(rest)
	if reason != "" {
		return Shard{}, &TopicError{ErrPubsubTopic, topic, reason}
	}
	return s, nil
}

// ParseShard reads a shard as people write it: 16/128, or its pubsub topic. The
// error is a [*TopicError] of kind [ErrShard] or [ErrPubsubTopic].
func ParseShard(text string) (Shard, error) {
	if strings.HasPrefix(text, "/") {
		return ParsePubsubTopic(text)
	}
	s, reason := parsePair(text)
	if reason != "" {
		return Shard{}, &TopicError{ErrShard, text, reason}
	}
	return s, nil
}

// parsePair reads <cluster>/<index>, or says what is wrong.
func parsePair(text string) (Shard, string) {
	cluster, index, ok := strings.Cut(text, "/")
	if !ok {
		return Shard{}, "cluster and shard must be separated by a slash"
	}
	c, ok := parseNumber(cluster, 1<<16-1)
	if !ok {
		return Shard{}, "the cluster must be a number from 0 to 65535 without leading zeros"
	}
	i, ok := parseNumber(index, MaxIndex)
	if !ok {
		return Shard{}, "the shard must be a number from 0 to 1023 without leading zeros"
	}
	return Shard{Cluster: c, Index: i}, ""
}

// parseNumber reads decimal digits in their shortest form, at most limit.
func parseNumber(text string, limit uint16) (uint16, bool) {
	if text == "" || len(text) > 5 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	n := 0
	for _, d := range []byte(text) {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + int(d-'0')
	}
	return uint16(n), n <= int(limit)
}
