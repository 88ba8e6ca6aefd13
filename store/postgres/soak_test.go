//go:build soak

package postgres_test

// soaking tells that tests take the time that promises are about.
const soaking = true
