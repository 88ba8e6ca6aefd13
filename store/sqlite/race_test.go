//go:build race

package sqlite_test

// damages is how many are tried of each archive. The race detector makes SQLite
// some twenty times slower.
const damages = 4
