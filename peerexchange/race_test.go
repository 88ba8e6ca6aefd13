//go:build race

package peerexchange_test

const raceEnabled = true
