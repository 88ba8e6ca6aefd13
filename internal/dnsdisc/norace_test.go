//go:build !race

package dnsdisc_test

const garbage = 10_000
