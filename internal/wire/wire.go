// Package wire frames messages on a stream: an unsigned varint length, then so
// many bytes. Every request and response protocol does so.
//
//	+--------------+----------------------+
//	| uvarint  n   | n bytes              |
//	+--------------+----------------------+
//
// Reading trusts nobody: the announced length is compared with the limit
// before anything is allocated, a varint longer than it needs to be is an
// error, and the buffer grows as bytes arrive, so that announcing much and
// sending nothing costs the reader next to nothing.
//
// Fields walks through a protobuf message where a decoder has to see what generated
// code hides: fields that are unknown, repeated, or empty instead of absent.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrBadVarint is returned for a length prefix that isn't the shortest form of
// a number below 2^63.
var ErrBadVarint = errors.New("wire: malformed length prefix")

// FrameTooLargeError is returned for a frame beyond the limit, when nothing but
// its length has been read.
type FrameTooLargeError struct {
	Size  uint64 // announced, in bytes
	Limit int    // allowed, in bytes
}

func (e *FrameTooLargeError) Error() string {
	return fmt.Sprintf("wire: frame of %d bytes, at most %d allowed", e.Size, e.Limit)
}

// maxVarintLen is the length of the longest prefix: 2^63-1 takes nine bytes.
const maxVarintLen = 9

// firstChunk is what a frame is given before its first byte has arrived.
const firstChunk = 1 << 10

// ReadFrame reads one frame of at most limit bytes, prefix not counted. It
// returns io.EOF when the stream ends before the prefix, io.ErrUnexpectedEOF
// when it ends later, ErrBadVarint, a *FrameTooLargeError, or the error of r.
// It never reads beyond the frame.
func ReadFrame(r io.Reader, limit int) ([]byte, error) {
	size, err := ReadLength(r, limit)
	if err != nil {
		return nil, err
	}
	return ReadBody(r, size)
}

// ReadLength is the first half of ReadFrame, for those who do something between
// the announcement and the message.
func ReadLength(r io.Reader, limit int) (int, error) {
	size, err := readLength(r)
	if err != nil {
		return 0, err
	}
	if size > uint64(max(limit, 0)) {
		return 0, &FrameTooLargeError{Size: size, Limit: limit}
	}
	return int(size), nil
}

func readLength(r io.Reader) (uint64, error) {
	var (
		b    [1]byte
		size uint64
	)
	for i := range maxVarintLen {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			if i > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		size |= uint64(b[0]&0x7f) << (7 * i)
		if b[0] < 0x80 {
			if b[0] == 0 && i > 0 {
				return 0, ErrBadVarint
			}
			return size, nil
		}
	}
	return 0, ErrBadVarint
}

// ReadBody is the second half: it reads size bytes, or returns
// io.ErrUnexpectedEOF or the error of r.
func ReadBody(r io.Reader, size int) ([]byte, error) {
	buf := make([]byte, min(size, firstChunk))
	for read := 0; ; {
		n, err := io.ReadFull(r, buf[read:])
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if read += n; read == size {
			return buf, nil
		}
		grown := make([]byte, min(size, 2*len(buf)))
		copy(grown, buf)
		buf = grown
	}
}

// AppendFrame appends the frame of msg to dst.
func AppendFrame(dst, msg []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(msg)))
	return append(dst, msg...)
}

// copyLimit is the length of the longest message that is copied in order to
// write it together with its prefix.
const copyLimit = 64 << 10

// WriteFrame writes the frame of msg in a single Write, or in two if it is longer
// than 64 KiB.
func WriteFrame(w io.Writer, msg []byte) error {
	head := msg
	if len(msg) > copyLimit {
		head = msg[:copyLimit/16]
	}
	b := binary.AppendUvarint(make([]byte, 0, len(head)+binary.MaxVarintLen64), uint64(len(msg)))
	if _, err := w.Write(append(b, head...)); err != nil {
		return err
	}
	if len(head) == len(msg) {
		return nil
	}
	_, err := w.Write(msg[len(head):])
	return err
}
