//go:build soak

package waku_test

func init() { lives, restarts, heapGrowth = 1000, 1000, 0.01 }
