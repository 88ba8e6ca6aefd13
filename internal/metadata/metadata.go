// Package metadata is 66/WAKU2-METADATA: two connected peers tell each other
// their cluster and the shards they serve. Both ends ask right after they have
// connected; NewClient asks, Serve answers, Info is what is said.
//
// # On the wire
//
// Request and answer are the same message. Implementations disagree about the
// field of the shards, so they are written twice, as nwaku does, and read in
// every form:
//
//	08 10            field 1: cluster 16
//	10 20 10 40      field 2, one entry a shard: 32, 64    all that js-waku reads
//	1a 02 20 40      field 3, packed: 32, 64               all that go-waku reads
//
// nwaku reads no more than 1024 bytes, so nothing longer is sent. A set of more
// than about 200 shards doesn't fit twice: the copy in field 2 is then cut
// short, since js-waku only picks service peers by it. Beyond about 500 shards
// field 3 is cut as well. Shards with low indices come first in both; whoever
// serves more than fits is found by its node record.
//
// What is read may be 8 KiB long: all 1024 shards written twice take 5 KiB.
package metadata

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/internal/pb"
)

// ID is the protocol's name.
const ID protocol.ID = "/vac/waku/metadata/1.0.0"

const (
	// MaxWritten is the length in bytes of the longest message sent.
	MaxWritten = 1024
	// MaxRead is the length in bytes of the longest message read.
	MaxRead = 8 << 10

	maxIndex = 1023 // the last shard of a cluster
)

// ErrMalformed is returned for a message that isn't the protocol's.
var ErrMalformed = errors.New("metadata: malformed message")

// ClusterError is returned for a cluster that cannot be: clusters are 0 to
// 65535.
type ClusterError struct{ Cluster uint32 }

func (e *ClusterError) Error() string {
	return fmt.Sprintf("metadata: cluster %d doesn't exist, the last one is %d", e.Cluster, math.MaxUint16)
}

// Info is what a peer says of itself.
type Info struct {
	// Cluster is meaningful only if HasCluster: a peer may leave it out.
	Cluster    uint16
	HasCluster bool
	// Shards are the indices of the shards served, within the cluster. What
	// was read is ascending, without duplicates, and at most 1023.
	Shards []uint16
}

// Encode returns the message, at most MaxWritten bytes: sorted, each shard
// once, indices beyond 1023 left out, cut short as the package comment says.
func (i Info) Encode() []byte {
	var m pb.Metadata
	room := MaxWritten
	if i.HasCluster {
		m.ClusterId = proto.Uint32(uint32(i.Cluster))
		room -= 1 + protowire.SizeVarint(uint64(i.Cluster))
	}
	var set indexSet
	for _, s := range i.Shards {
		set.add(uint32(s))
	}
	shards := set.list()

	packed, size := 0, 0
	for _, s := range shards {
		next := size + protowire.SizeVarint(uint64(s))
		if 1+protowire.SizeBytes(next) > room {
			break
		}
		packed, size = packed+1, next
	}
	if packed > 0 {
		room -= 1 + protowire.SizeBytes(size)
	}
	for _, s := range shards[:packed] {
		m.Shards = append(m.Shards, uint32(s))
	}
	for _, s := range m.Shards {
		if room -= 1 + protowire.SizeVarint(uint64(s)); room < 0 {
			break
		}
		m.ShardsUnpacked = append(m.ShardsUnpacked, s)
	}
	b, err := proto.Marshal(&m)
	if err != nil {
		panic(err) // only strings can make a message of numbers fail
	}
	return b
}

// Decode reads a message in any of the forms in use. It returns ErrMalformed or
// a *ClusterError. Unknown fields are skipped, shards beyond 1023 dropped.
func Decode(b []byte) (Info, error) {
	if len(b) > MaxRead {
		return Info{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	var m pb.Metadata
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, &m); err != nil {
		return Info{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var i Info
	if m.ClusterId != nil {
		if *m.ClusterId > math.MaxUint16 {
			return Info{}, &ClusterError{Cluster: *m.ClusterId}
		}
		i.Cluster, i.HasCluster = uint16(*m.ClusterId), true
	}
	var set indexSet
	for _, s := range m.ShardsUnpacked {
		set.add(s)
	}
	for _, s := range m.Shards {
		set.add(s)
	}
	i.Shards = set.list()
	return i, nil
}

// indexSet sorts and removes duplicates in bounded space.
type indexSet [maxIndex + 1]bool

func (s *indexSet) add(index uint32) {
	if index <= maxIndex {
		s[index] = true
	}
}

func (s *indexSet) list() []uint16 {
	var list []uint16
	for i, in := range s {
		if in {
			list = append(list, uint16(i))
		}
	}
	return list
}
