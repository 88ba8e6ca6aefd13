package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// cold says what a cold cache is here.
const cold = "cold: the server was restarted and its files dropped from the system's page cache"

// dropCached has the system forget what it has cached of a file.
func dropCached(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
