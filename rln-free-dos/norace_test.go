//go:build !race

package dosguard

const slow = 1
