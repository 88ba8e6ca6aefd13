package sharding

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Autoshard returns the shard of a content topic in a network that has shards 0
// to shards-1 of a cluster and derives them (51/WAKU2-RELAY-SHARDING): the last
// eight bytes of
//
//	sha256(application ‖ version)
//
// as a big-endian number, modulo shards. That is what all implementations
// compute; for numbers of shards that aren't powers of two the specification
// can be read otherwise.
//
// Every Status content topic begins with /waku/1 and so lands on one shard:
// Status uses static shards.
//
// The error is a [*TopicError] of kind [ErrContentTopic], or [ErrShardCount] if
// shards isn't 1 to 1024.
func Autoshard(contentTopic string, cluster uint16, shards int) (Shard, error) {
	if shards < 1 || shards > MaxIndex+1 {
		return Shard{}, fmt.Errorf("sharding: %w: a network has 1 to 1024 shards, not %d", ErrShardCount, shards)
	}
	t, err := ParseContentTopic(contentTopic)
	if err != nil {
		return Shard{}, err
	}
	sum := sha256.Sum256([]byte(t.Application + t.Version))
	last := binary.BigEndian.Uint64(sum[24:])
	return Shard{Cluster: cluster, Index: uint16(last % uint64(shards))}, nil
}
