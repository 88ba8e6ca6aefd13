package spool

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
)

// ErrLocked is the error of opening a directory that another spool uses.
var ErrLocked = errors.New("spool: the directory is in use")

// ErrTooLarge is the error of appending a record of more than [MaxRecordBytes].
var ErrTooLarge = errors.New("spool: the record is too large")

// FullError is the error of appending to a spool that has reached its bound.
// Nothing is kept. There is room again when records are done.
type FullError struct {
	Limit int64 // the bound, in bytes on the disk
}

// Error names the bound.
func (e *FullError) Error() string { return fmt.Sprintf("spool: full: %d bytes", e.Limit) }

// DiskError is the error of an operation that the disk refused. What was
// appended before is unharmed.
type DiskError struct {
	Op  string // what was to be done
	Err error
}

// Error says what failed and why.
func (e *DiskError) Error() string { return fmt.Sprintf("spool: %s: %v", e.Op, e.Err) }

// Unwrap returns the cause.
func (e *DiskError) Unwrap() error { return e.Err }

// NoSpace tells whether the disk, or the user's share of it, is full.
func (e *DiskError) NoSpace() bool {
	const diskFull = syscall.Errno(112) // as Windows has it
	return errors.Is(e.Err, syscall.ENOSPC) || errors.Is(e.Err, syscall.EDQUOT) ||
		runtime.GOOS == "windows" && errors.Is(e.Err, diskFull)
}
