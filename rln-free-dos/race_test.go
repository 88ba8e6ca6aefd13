//go:build race

package dosguard

// slow divides the counts of tests that compute a lot: the race detector makes
// arithmetic ten times slower and has nothing to find in it.
const slow = 12
