package store

import (
	"errors"
	"fmt"

	"github.com/status-im/shoal/message"
)

var (
	// ErrUnknownCursor is the error of a question whose cursor names no message
	// that the archive holds or held. A walk goes on from the timestamp of its
	// last good entry.
	ErrUnknownCursor = errors.New("store: cursor not found")
	// ErrUnavailable is the error while the archive's database is away or
	// overloaded. Ask again later, or somebody else.
	ErrUnavailable = errors.New("store: archive unavailable")
)

// The reasons of an [EntryError].
var (
	ErrEphemeral    = errors.New("ephemeral messages are not kept")
	ErrNoTimestamp  = errors.New("the message has no timestamp")
	ErrTooOld       = errors.New("the message is older than the retention allows")
	ErrFuture       = errors.New("the message is from the future")
	ErrHashMismatch = errors.New("the message has another hash")
)

// EntryError says why an entry can't be kept.
type EntryError struct {
	Hash message.Hash
	// Err is one of the reasons above, or an error of package message.
	Err error
}

// Error implements error.
func (e *EntryError) Error() string { return fmt.Sprintf("store: entry %s: %v", e.Hash, e.Err) }

// Unwrap returns Err.
func (e *EntryError) Unwrap() error { return e.Err }

// QueryError says what is wrong with a question.
type QueryError struct {
	// Field is the field of Query at fault.
	Field string
	// Reason completes the sentence that begins with Field.
	Reason string
}

// Error implements error.
func (e *QueryError) Error() string { return fmt.Sprintf("store: query: %s %s", e.Field, e.Reason) }

// FullError is returned by Put when there is no room.
type FullError struct {
	// Limit is the bound that was reached, in bytes. Zero: the disk's own.
	Limit int64
	// Err is the system's error, if there is one.
	Err error
}

// Error implements error.
func (e *FullError) Error() string {
	switch {
	case e.Limit > 0:
		return fmt.Sprintf("store: the spool has reached its bound of %d bytes", e.Limit)
	case e.Err != nil:
		return fmt.Sprintf("store: no room: %v", e.Err)
	}
	return "store: no room"
}

// Unwrap returns Err.
func (e *FullError) Unwrap() error { return e.Err }
