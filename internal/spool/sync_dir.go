//go:build !windows

package spool

import (
	"errors"
	"os"
)

// Sync makes the directory's entries durable.
func (d directory) Sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
