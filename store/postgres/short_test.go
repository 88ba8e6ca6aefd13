//go:build !soak

package postgres_test

const soaking = false
