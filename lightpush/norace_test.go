//go:build !race

package lightpush_test

const raceEnabled = false
