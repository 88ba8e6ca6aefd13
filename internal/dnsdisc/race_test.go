//go:build race

package dnsdisc_test

const raceEnabled = true
