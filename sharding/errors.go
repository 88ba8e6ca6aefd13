package sharding

import (
	"errors"
	"fmt"
)

// Kinds of text and values that this package refuses, for errors.Is.
var (
	// ErrShard is about a shard as people write it, or its index.
	ErrShard = errors.New("not a shard")
	// ErrPubsubTopic is about the pubsub topic of a static shard.
	ErrPubsubTopic = errors.New("not a static shard's pubsub topic")
	// ErrContentTopic is about a content topic.
	ErrContentTopic = errors.New("not a content topic")
	// ErrShardCount is about the number of shards in a network or in a set.
	ErrShardCount = errors.New("impossible number of shards")
	// ErrShardSet is about the value of a node record's rs or rsv key.
	ErrShardSet = errors.New("not a shard set")
	// ErrPublicKey is about a public key to be mapped to a partition.
	ErrPublicKey = errors.New("not a public key")
)

// shown is how much of a refused text goes into an error, in bytes: it may come
// from a stranger and be long.
const shown = 100

// TopicError says why a text is not the topic, or the shard, that it should be.
type TopicError struct {
	Kind   error  // ErrShard, ErrPubsubTopic or ErrContentTopic
	Text   string // what was refused
	Reason string // what to do about it
}

// Error implements error. It quotes no more than the text's beginning.
func (e *TopicError) Error() string {
	text, more := e.Text, ""
	if len(text) > shown {
		text, more = text[:shown], "…"
	}
	return fmt.Sprintf("sharding: %v: %q%s: %s", e.Kind, text, more, e.Reason)
}

// Unwrap returns the kind.
func (e *TopicError) Unwrap() error { return e.Kind }

// IndexError says that a shard's index is above [MaxIndex]. It is [ErrShard] by
// errors.Is.
type IndexError struct {
	Index int // what was refused
}

// Error implements error.
func (e *IndexError) Error() string {
	return fmt.Sprintf("sharding: %v: index %d is above %d", ErrShard, e.Index, MaxIndex)
}

// Unwrap returns [ErrShard].
func (e *IndexError) Unwrap() error { return ErrShard }
