// Package sharding holds the names of places in a Waku network: shards and
// their pubsub topics, content topics, sets of shards as node records carry
// them, and Status's plan of its cluster (23/WAKU2-TOPICS,
// 51/WAKU2-RELAY-SHARDING, 31/WAKU2-ENR, 57/STATUS-SIMPLE-SCALING).
//
// A network is a cluster, a cluster has 1024 shards, and a shard is one
// gossipsub topic:
//
//	/waku/2/rs/16/128
//	           │  └── index, 0 to 1023       Shard{Cluster: 16, Index: 128}
//	           └───── cluster, 0 to 65535
//
// Three names are enough to begin with: [Shard], [ParseShard] and [Set].
// Whoever knows the shard ("static sharding", what Status does) needs nothing
// else. [Autoshard] computes it from a [ContentTopic], for networks that agreed
// on that.
//
// # Sets in node records
//
// A node record says in one of two keys which shards its node serves, all of one
// cluster:
//
//	rs     0010 03 000d 000e 002d       cluster, count, then each index; big-endian
//	rsv    0010 006000000020 00…        cluster, then 128 bytes, one bit a shard:
//	                                    shard i is bit i mod 8 of byte i/8, the
//	                                    least significant bit first
//
// Both lines say 16/13, 16/14 and 16/45.
// Fewer than 64 shards are written as rs, more as rsv; [Set.WriteRecord] and
// [ReadRecord] keep to the rules about having only one of them.
//
// # What is refused
//
// Topics are compared byte by byte, so a second spelling of a number would be a
// second topic: leading zeros, signs and missing parts are refused, and so is a
// shard above 1023. Nothing in this package does curve arithmetic, keeps state,
// or allocates more than its input is long.
package sharding
