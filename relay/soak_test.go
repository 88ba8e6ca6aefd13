//go:build soak

package relay_test

const hours = 24
