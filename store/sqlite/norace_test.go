//go:build !race

package sqlite_test

// damages is how many are tried of each archive.
const damages = 25
