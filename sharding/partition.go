package sharding

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"golang.org/x/crypto/sha3"
)

// How many parts the one-to-one traffic is divided into. A message to somebody
// goes to the content topic of that person's part, which many share, so that it
// doesn't show to whom it goes.
const (
	// DeployedPartitions is what Status uses.
	DeployedPartitions = 5000
	// PlannedPartitions is what 57/STATUS-SIMPLE-SCALING says.
	PlannedPartitions = 8192
)

// oneToOneShards is the number of shards that the plan has for one-to-one chats.
const oneToOneShards = 128

// Partition is the place where messages to one person are found.
type Partition struct {
	Number       int    // 0 up to the number of partitions
	Name         string // contact-discovery-<number>
	ContentTopic string // [StatusContentTopic] of the name
	Shard        Shard  // in [StatusCluster]
}

// DeployedPartition returns the partition of a public key as Status uses it: one
// of 5000, all on [DefaultShard]. The error is [ErrPublicKey].
func DeployedPartition(publicKey []byte) (Partition, error) {
	n, err := PartitionOf(publicKey, DeployedPartitions)
	if err != nil {
		return Partition{}, err
	}
	return newPartition(n, Shard{Cluster: StatusCluster, Index: DefaultShard}), nil
}

// PlannedPartition returns the partition of a public key by
// 57/STATUS-SIMPLE-SCALING: one of 8192, on [OneToOneShard]. The error is
// [ErrPublicKey].
func PlannedPartition(publicKey []byte) (Partition, error) {
	n, err := PartitionOf(publicKey, PlannedPartitions)
	if err != nil {
		return Partition{}, err
	}
	// 8192 is a multiple of 128: no need to divide X again.
	return newPartition(n, oneToOneShard(n%oneToOneShards)), nil
}

func newPartition(n int, shard Shard) Partition {
	return Partition{Number: n, Name: PartitionName(n), ContentTopic: PartitionTopic(n), Shard: shard}
}

// OneToOneShard returns the shard of a public key by 57/STATUS-SIMPLE-SCALING,
// 16/768 to 16/895. Status itself doesn't use it, see [DeployedPartition]. The
// error is [ErrPublicKey].
func OneToOneShard(publicKey []byte) (Shard, error) {
	n, err := PartitionOf(publicKey, oneToOneShards)
	if err != nil {
		return Shard{}, err
	}
	return oneToOneShard(n), nil
}

func oneToOneShard(n int) Shard {
	return Shard{Cluster: StatusCluster, Index: plan[OneToOne] + uint16(n)}
}

// PartitionOf returns X mod n, where X is the first coordinate of a secp256k1
// public key as a big-endian number. The key is 33 bytes (compressed) or 65; all
// forms of a key give one result. Whether the point is on the curve isn't
// checked. The error is [ErrPublicKey], or [ErrShardCount] if n isn't 1 to 2^31-1.
func PartitionOf(publicKey []byte, n int) (int, error) {
	x, err := coordinateX(publicKey)
	if err != nil {
		return 0, err
	}
	if n < 1 || n > 1<<31-1 {
		return 0, fmt.Errorf("sharding: %w: %d partitions", ErrShardCount, n)
	}
	rest := uint64(0)
	for _, b := range x {
		rest = (rest<<8 | uint64(b)) % uint64(n)
	}
	return int(rest), nil
}

// coordinateX returns the 32 bytes of X in a serialised public key.
func coordinateX(key []byte) ([]byte, error) {
	switch {
	case len(key) == 33 && (key[0] == 2 || key[0] == 3), len(key) == 65 && key[0] == 4:
		return key[1:33], nil
	case len(key) == 33:
		return nil, fmt.Errorf("sharding: %w: 33 bytes must begin with 2 or 3, not %d", ErrPublicKey, key[0])
	case len(key) == 65:
		return nil, fmt.Errorf("sharding: %w: 65 bytes must begin with 4, not %d", ErrPublicKey, key[0])
	}
	return nil, fmt.Errorf("sharding: %w: %d bytes, must be 33 or 65", ErrPublicKey, len(key))
}

// PartitionName returns the name of a partition, contact-discovery-<n>.
func PartitionName(n int) string { return "contact-discovery-" + strconv.Itoa(n) }

// PartitionTopic returns the content topic of a partition, [StatusContentTopic]
// of its name.
func PartitionTopic(n int) string { return StatusContentTopic(PartitionName(n)) }

// StatusContentTopic returns the content topic of a chat by its name,
// /waku/1/0x<the first four bytes of keccak256(name)>/rfc26.
func StatusContentTopic(name string) string {
	h := sha3.NewLegacyKeccak256()
	h.Write([]byte(name))
	return "/waku/1/0x" + hex.EncodeToString(h.Sum(nil)[:4]) + "/rfc26"
}
