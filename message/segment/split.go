package segment

import "fmt"

// Split cuts a payload into slices of size bytes and adds parity: see [Size]. Data
// comes first, in order. A payload that isn't longer than size needs no segments and
// gets none: send it as it is. The slices share memory with the payload. The error
// is a *[TooLargeError] when it would take more than [MaxSegments].
func Split(payload []byte, size int) ([]*Segment, error) {
	if size <= 0 {
		return nil, fmt.Errorf("segment: slices of %d bytes", size)
	}
	if len(payload) <= size {
		return nil, nil
	}
	if len(payload) > MaxSegments*size {
		return nil, &TooLargeError{Size: len(payload), Limit: MaxSegments * size}
	}
	n := (len(payload) + size - 1) / size
	p := parityOf(n)
	whole := Sum(payload)
	blocks := make([][]byte, 0, n+p)
	segments := make([]*Segment, 0, n+p)
	for i := range n {
		slice := payload[i*size : min((i+1)*size, len(payload))]
		slice = slice[:len(slice):len(slice)]
		segments = append(segments, &Segment{Whole: whole, Index: i, Count: n, Payload: slice})
		blocks = append(blocks, slice)
	}
	if p == 0 {
		return segments, nil
	}
	blocks[n-1] = filled(blocks[n-1], size)
	for range p {
		blocks = append(blocks, make([]byte, size))
	}
	code, err := newCode(n, p)
	if err != nil {
		return nil, err
	}
	if err := code.Encode(blocks); err != nil {
		return nil, fmt.Errorf("segment: %w", err)
	}
	for i, block := range blocks[n:] {
		segments = append(segments, &Segment{Whole: whole, Parity: true, Index: i, Count: p, Payload: block})
	}
	return segments, nil
}
