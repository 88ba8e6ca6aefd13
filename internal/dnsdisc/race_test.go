//go:build race

package dnsdisc_test

const garbage = 1_000
