package segment

import (
	"errors"
	"fmt"
)

// ErrNotSegment says that bytes aren't a segment. They may be a payload that needed
// none.
var ErrNotSegment = errors.New("segment: not a segment")

// ErrContradiction says that a segment doesn't fit those that its sender gave of the
// same payload before.
var ErrContradiction = errors.New("segment: contradicts earlier segments of its payload")

// ErrSpoiled says that the segments of a payload don't make what their hash says. All
// of them are forgotten.
var ErrSpoiled = errors.New("segment: the whole doesn't have its hash")

// TooLargeError says that a payload is longer than its segments may be together.
type TooLargeError struct {
	Size  int // of the payload, in bytes; of one that isn't whole, at least
	Limit int // in bytes
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("segment: a payload of %d bytes, at most %d are allowed", e.Size, e.Limit)
}
