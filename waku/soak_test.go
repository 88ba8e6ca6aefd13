//go:build soak

package waku_test

func init() { lives, restarts = 1000, 1000 }
