// Package sharding holds the names of places in a Waku network: shards and
// their pubsub topics, content topics, sets of shards as node records carry
// them, and Status's plan of its cluster (23/WAKU2-TOPICS,
// 51/WAKU2-RELAY-SHARDING, 57/STATUS-SIMPLE-SCALING).
package sharding
