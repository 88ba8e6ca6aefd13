//go:build !race

package peerexchange_test

const raceEnabled = false
