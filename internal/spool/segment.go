package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
)

// MaxRecordBytes is the largest record.
const MaxRecordBytes = 8 << 20

const (
	suffix     = ".spool"
	headerSize = 16
	sealSize   = headerSize + 8
	// chunkSize is how much is read at a time.
	chunkSize = 1 << 20
)

var (
	recordMark = [4]byte{0xa7, 'r', 'e', 'c'}
	sealMark   = [4]byte{0xa7, 's', 'e', 'l'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// segment is a file of records. Once it has been published in Spool.segments,
// all but its name and file belong to the lock.
type segment struct {
	number uint64
	salt   uint32
	file   File // for writing; nil unless active

	size  int64 // up to the last good record
	disk  int64 // the file's length
	count int64 // records
	bytes int64 // their data

	passed      int64 // records that the cursor has passed
	passedBytes int64
	left        int64 // records not done

	fresh      bool // the directory's entry isn't durable
	suspect    bool // a sync has failed
	unreadable bool // to be left alone
	failures   int  // of reading, in a row
}

func (seg *segment) name() string { return fmt.Sprintf("%016x-%08x%s", seg.number, seg.salt, suffix) }

// segmentsOf returns the segments among files, in their order.
func segmentsOf(files map[string]int64) (found []*segment) {
	for name, size := range files {
		base, ok := strings.CutSuffix(name, suffix)
		number, salt, ok2 := strings.Cut(base, "-")
		n, err1 := strconv.ParseUint(number, 16, 64)
		x, err2 := strconv.ParseUint(salt, 16, 32)
		seg := &segment{number: n, salt: uint32(x), disk: size}
		if ok && ok2 && err1 == nil && err2 == nil && seg.name() == name {
			found = append(found, seg)
		}
	}
	slices.SortFunc(found, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.salt, b.salt))
	})
	return found
}

// appendRecord appends a record's bytes but for the sum that tells its place.
func appendRecord(b []byte, mark [4]byte, data []byte) []byte {
	b = append(b, mark[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(data, castagnoli))
	b = append(b, 0, 0, 0, 0)
	return append(b, data...)
}

// place completes the headers of all records in b, which is to be written at an
// offset.
func (seg *segment) place(b []byte, offset int64) {
	for i := 0; i < len(b); {
		h := b[i : i+headerSize]
		binary.LittleEndian.PutUint32(h[12:], seg.placeSum(h, offset+int64(i)))
		i += headerSize + int(binary.LittleEndian.Uint32(h[4:]))
	}
}

// placeSum is the second sum of a header.
func (seg *segment) placeSum(header []byte, offset int64) uint32 {
	var b [20 + 12]byte
	binary.LittleEndian.PutUint64(b[0:], seg.number)
	binary.LittleEndian.PutUint32(b[8:], seg.salt)
	binary.LittleEndian.PutUint64(b[12:], uint64(offset))
	copy(b[20:], header[:12])
	return crc32.Checksum(b[:], castagnoli)
}

// header returns the length of a record's data, if b begins with a header that
// belongs at an offset.
func (seg *segment) header(b []byte, mark [4]byte, offset int64) (length int64, ok bool) {
	if len(b) < headerSize || [4]byte(b) != mark || binary.LittleEndian.Uint32(b[12:]) != seg.placeSum(b, offset) {
		return 0, false
	}
	length = int64(binary.LittleEndian.Uint32(b[4:]))
	return length, length <= MaxRecordBytes
}

// intact tells whether a whole record's data is what was written.
func intact(record []byte) bool {
	return binary.LittleEndian.Uint32(record[8:]) == crc32.Checksum(record[headerSize:], castagnoli)
}

// seal ends a segment.
func (seg *segment) seal() error {
	b := appendRecord(nil, sealMark, binary.LittleEndian.AppendUint64(nil, uint64(seg.count)))
	seg.place(b, seg.size)
	if _, err := seg.file.WriteAt(b, seg.size); err != nil {
		return errors.Join(err, seg.file.Truncate(seg.size))
	}
	return nil
}

// readSeal takes the number of records from the seal, if there is one.
func (seg *segment) readSeal(f File) (bool, error) {
	at := seg.disk - sealSize
	if at < 0 {
		return false, nil
	}
	var b [sealSize]byte
	if err := readFull(f, b[:], at); err != nil {
		return false, err
	}
	if n, ok := seg.header(b[:], sealMark, at); !ok || n != 8 || !intact(b[:]) {
		return false, nil
	}
	count := binary.LittleEndian.Uint64(b[headerSize:])
	if count > uint64(at/headerSize) {
		return false, nil
	}
	seg.size, seg.count, seg.left = at, int64(count), int64(count)
	seg.bytes = at - seg.count*headerSize
	return true, nil
}

// scan counts the records of a segment without a seal, up to the last that is
// whole. A damaged stretch before that counts as one.
func (seg *segment) scan(f File) error {
	gap := false
	for at := int64(0); at < seg.disk; {
		c, err := seg.read(f, at, seg.disk)
		if err != nil {
			return err
		}
		for _, r := range c.records {
			if gap = gap || r.gap; gap {
				seg.count++
				gap = false
			}
			seg.count++
			seg.bytes += int64(len(r.data))
			seg.size = r.end
		}
		gap = gap || c.gap
		at = c.end
	}
	seg.left = seg.count
	return nil
}

// chunk is what one read has found.
type chunk struct {
	records []found
	gap     bool  // there is damage after the last of them
	end     int64 // where to go on
}

type found struct {
	data []byte
	gap  bool  // there is damage before it
	end  int64 // offset of what follows
}

// read reads records from an offset on, which is before limit. It gets on by one
// byte at least.
func (seg *segment) read(f File, from, limit int64) (c chunk, err error) {
	buf := make([]byte, min(chunkSize, limit-from))
	if err := readFull(f, buf, from); err != nil {
		return c, err
	}
	for i := int64(0); ; {
		rest := buf[i:]
		c.end = from + i
		if len(rest) == 0 {
			return c, nil
		}
		n, ok := seg.header(rest, recordMark, from+i)
		n += headerSize
		switch {
		case ok && from+i+n > limit, !ok:
			// Damaged, or the end of the chunk cuts the header.
			if len(rest) < headerSize && from+int64(len(buf)) < limit && i > 0 {
				return c, nil
			}
			c.gap = true
			i += seg.skip(rest, from+i)
		case n > int64(len(rest)) && i > 0:
			return c, nil // the next chunk has it whole
		case n > int64(len(rest)):
			buf = make([]byte, n)
			if err := readFull(f, buf, from); err != nil {
				return c, err
			}
		case !intact(rest[:n]):
			c.gap = true
			i += n
		default:
			i += n
			c.records = append(c.records, found{rest[headerSize:n:n], c.gap, from + i})
			c.gap = false
		}
	}
}

// skip returns how far the next header is from the damage at the beginning of b,
// or the end of b, less what may be the beginning of a header.
func (seg *segment) skip(b []byte, offset int64) int64 {
	for i := 1; ; i++ {
		next := bytes.Index(b[min(i, len(b)):], recordMark[:])
		if next < 0 {
			return max(1, int64(len(b))-headerSize+1)
		}
		i += next
		if len(b)-i < headerSize {
			return int64(i)
		}
		if _, ok := seg.header(b[i:], recordMark, offset+int64(i)); ok {
			return int64(i)
		}
	}
}

// readFull reads all of b. The file is known to be long enough: an end is an
// error.
func readFull(f File, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
