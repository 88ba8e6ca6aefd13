//go:build !race

package dosguard_test

const slowdown = 1
