package sharding

import (
	"iter"
	"math/bits"
	"strings"
)

// Set is a set of shards of one cluster. The zero value is an empty set of
// cluster 0. Sets are values: = copies, == compares.
type Set struct {
	cluster uint16
	words   [(MaxIndex + 1) / 64]uint64 // shard i is bit i mod 64 of word i/64
}

// NewSet returns the set of the given shards of a cluster, or an [*IndexError].
func NewSet(cluster uint16, indices ...uint16) (Set, error) {
	s := Set{cluster: cluster}
	err := s.Add(indices...)
	return s, err
}

// Cluster returns the cluster that all the set's shards are of.
func (s Set) Cluster() uint16 { return s.cluster }

// Add adds shards of the set's cluster. If one of them doesn't exist, it adds
// none and returns an [*IndexError].
func (s *Set) Add(indices ...uint16) error {
	for _, i := range indices {
		if i > MaxIndex {
			return &IndexError{Index: int(i)}
		}
	}
	for _, i := range indices {
		s.words[i/64] |= 1 << (i % 64)
	}
	return nil
}

// Remove removes shards of the set's cluster; those that aren't in it don't
// matter.
func (s *Set) Remove(indices ...uint16) {
	for _, i := range indices {
		if i <= MaxIndex {
			s.words[i/64] &^= 1 << (i % 64)
		}
	}
}

// Contains reports whether shard is in s. A shard of another cluster is not.
func (s Set) Contains(shard Shard) bool {
	return shard.Cluster == s.cluster && shard.Index <= MaxIndex &&
		s.words[shard.Index/64]>>(shard.Index%64)&1 == 1
}

// Len returns the number of shards, 0 to 1024.
func (s Set) Len() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// All iterates over the shards in ascending order.
func (s Set) All() iter.Seq[Shard] {
	return func(yield func(Shard) bool) {
		for i, w := range s.words {
			for ; w != 0; w &= w - 1 {
				index := uint16(i*64 + bits.TrailingZeros64(w))
				if !yield(Shard{Cluster: s.cluster, Index: index}) {
					return
				}
			}
		}
	}
}

// Indices returns the shards' indices in ascending order, nil if there are none.
func (s Set) Indices() []uint16 {
	var out []uint16
	for shard := range s.All() {
		out = append(out, shard.Index)
	}
	return out
}

// String returns the shards as in 16/{1, 32, 64}.
func (s Set) String() string {
	var b strings.Builder
	b.Write(Shard{Cluster: s.cluster}.appendCluster(nil))
	b.WriteByte('{')
	first := true
	for shard := range s.All() {
		if !first {
			b.WriteString(", ")
		}
		first = false
		b.Write(shard.appendIndex(nil))
	}
	b.WriteByte('}')
	return b.String()
}
