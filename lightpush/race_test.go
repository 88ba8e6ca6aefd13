//go:build race

package lightpush_test

const raceEnabled = true
