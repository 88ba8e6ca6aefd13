// Package scale runs a shard of thousands of members, each of them the SDK's own relay
// with the community's validator, on a simulated network in virtual time, and measures
// what it costs whom and what arrives when.
//
//	synctest.Test(t, func(t *testing.T) {
//		r, err := scale.Run(ctx, scale.Config{Members: 200})
//	})
//
// A run has three parts. In Settle hosts connect and meshes form. Then messages are
// published at an even rate by members drawn by lot, first for Warm, so that gossip
// and the caches are as in the midst of a day, and then for Load, in which traffic is
// counted, heartbeats and all. In Drain nothing new is said, and what is missing after
// it is missing.
//
// Each node decodes, judges and verifies every message by itself, the signature
// included; only the key's table, which is a constant, is shared.
package scale
