//go:build !soak

package relay_test

// hours is how long the quiet shard is watched.
const hours = 2
