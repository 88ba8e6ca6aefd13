package segment

import (
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/reedsolomon"
	"golang.org/x/crypto/sha3"
)

const (
	// maxBlocks is how many blocks the code can have in all.
	maxBlocks = 256
	// maxZeros is how many zeros at the end of a whole are tried when its last slice
	// was made from parity. Nearly every payload ends with a byte that isn't zero.
	maxZeros = 4096
)

// parityOf is how many blocks of parity go with n slices.
func parityOf(n int) int {
	p := n / parityShare
	if n+p > maxBlocks {
		return 0
	}
	return p
}

func newCode(n, p int) (reedsolomon.Encoder, error) {
	code, err := reedsolomon.New(n, p, reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
	if err != nil {
		return nil, fmt.Errorf("segment: %d slices and %d blocks of parity: %w", n, p, err)
	}
	return code, nil
}

// filled returns b with zeros after it, size bytes long.
func filled(b []byte, size int) []byte {
	if len(b) == size {
		return b
	}
	return append(slices.Grow(slices.Clip(b), size-len(b)), make([]byte, size-len(b))...)
}

// errPadding says that the end of a whole isn't known for sure.
var errPadding = errors.New("segment: where the payload ends isn't known without its last slice")

// join makes the whole of all slices.
func join(data [][]byte, whole Hash) ([]byte, error) {
	payload := slices.Concat(data...)
	if Sum(payload) != whole {
		return nil, ErrSpoiled
	}
	return payload, nil
}

// rebuild makes the whole when slices are missing: nil in data. Blocks of parity that
// are missing are nil too.
func rebuild(data, parity [][]byte, size int, whole Hash) ([]byte, error) {
	n := len(data)
	last := len(data[n-1])
	blocks := slices.Concat(data, parity)
	if last > 0 {
		blocks[n-1] = filled(data[n-1], size)
	}
	code, err := newCode(n, len(parity))
	if err != nil {
		return nil, err
	}
	if err := code.ReconstructData(blocks); err != nil {
		return nil, fmt.Errorf("segment: %w", err)
	}
	if last > 0 {
		blocks[n-1] = blocks[n-1][:last]
		return join(blocks[:n], whole)
	}
	return trim(slices.Concat(blocks[:n]...), size, whole)
}

// trim finds the end of a whole that zeros may follow: all of its last slice but one
// byte, at most.
func trim(padded []byte, size int, whole Hash) ([]byte, error) {
	end := len(padded)
	shortest := end - size + 1
	for end > shortest && padded[end-1] == 0 {
		end--
	}
	k := sha3.NewLegacyKeccak256()
	k.Write(padded[:end])
	for zero, tries := []byte{0}, 0; tries <= maxZeros; tries++ {
		if Hash(k.Sum(nil)) == whole {
			return padded[:end:end], nil
		}
		if end == len(padded) {
			return nil, ErrSpoiled
		}
		k.Write(zero)
		end++
	}
	return nil, errPadding
}
