package message

import (
	"errors"
	"fmt"
)

// What [Message.Validate] finds.
var (
	// ErrEmptyPayload says that there is no payload.
	ErrEmptyPayload = errors.New("message: payload is empty")
	// ErrEmptyContentTopic says that there is no content topic.
	ErrEmptyContentTopic = errors.New("message: content topic is empty")
	// ErrContentTopicUTF8 says that the content topic isn't UTF-8, which no
	// protobuf library would read. Decode finds it as well.
	ErrContentTopicUTF8 = errors.New("message: content topic is not UTF-8")
	// ErrMetaTooLong says that meta exceeds [MaxMetaLen].
	ErrMetaTooLong = errors.New("message: meta is longer than 64 bytes")
)

// What [Message.Strict] finds.
var (
	// ErrUnknownField says that a field was on the wire that a message doesn't
	// have, or that has another wire type.
	ErrUnknownField = errors.New("message: unknown field on the wire")
	// ErrRepeatedField says that a field was on the wire more than once.
	ErrRepeatedField = errors.New("message: field repeated on the wire")
	// ErrVersion says that the version is above 1.
	ErrVersion = errors.New("message: version above 1")
	// ErrRateLimitProof says that there is a rate limit proof.
	ErrRateLimitProof = errors.New("message: rate limit proof where none is used")
)

// ErrFieldNumber says that a field's number is 0 or beyond what protobuf allows.
// nwaku skips such fields.
var ErrFieldNumber = errors.New("message: field number out of range")

// ErrMalformed is what every error of [Decode] is, by errors.Is.
var ErrMalformed = errors.New("message: malformed")

// DecodeError says where [Decode] gave up. It is [ErrMalformed], and it unwraps
// to the cause: io.ErrUnexpectedEOF for a cut message, [ErrContentTopicUTF8],
// or an error of the protobuf wire format.
type DecodeError struct {
	Offset int   // in bytes, where the field begins that can't be read
	Err    error // the cause
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("message: malformed at byte %d: %v", e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *DecodeError) Unwrap() error { return e.Err }

// Is reports whether target is [ErrMalformed].
func (e *DecodeError) Is(target error) bool { return target == ErrMalformed }

// TooLargeError says that an encoded message exceeds a network's limit.
type TooLargeError struct {
	Size  int // of the encoded message, in bytes
	Limit int // the most that is allowed, in bytes
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("message: %d bytes encoded, at most %d are allowed", e.Size, e.Limit)
}
