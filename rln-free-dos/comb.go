package dosguard

// A comb is a table for multiplying one fixed point by any scalar, after
// Lim and Lee, with signed digits.
//
// The scalar is written with combBits digits of +1 or -1. The digits are
// combed: row i, for i < combSpacing, holds every combSpacing-th digit from
// the i-th on, and a row is cut into combBlocks groups of combTeeth digits. A
// group's value is a table entry: the sum of ±2^(combSpacing*t) times the
// block's base point over the teeth t. Half of them are the negatives of the
// other half, so a block has 2^(combTeeth-1) entries, those with the top tooth
// positive. A multiplication is combSpacing*combBlocks additions with
// combSpacing-1 doublings in between, and the sum of two multiplications
// shares the doublings.
//
// The parameters were chosen by measurement. A table of 1 MiB makes verification
// about a seventh faster in a benchmark, which has the caches to itself; one of
// 256 KiB, two of which are in use at a time, leaves them to others as well.
const (
	combTeeth   = 12
	combSpacing = 11
	combBlocks  = 2
	combBits    = combTeeth * combSpacing * combBlocks
	combEntries = 1 << (combTeeth - 1) // per block

	combSize = combBlocks * combEntries * 64 // bytes of a table
)

type comb struct{ entries []affine }

// newComb computes the table of a point. It takes one or two milliseconds.
//
// No exceptional addition is possible here: entries of a block are c*2^k times
// the point with odd |c| < 2^(combTeeth*combSpacing), so two of them are never
// equal or opposite modulo the prime group order unless their c's are, and
// what is added is 2^(t*combSpacing+1) for a tooth below the top one, which is
// smaller than every entry's c.
func newComb(p affine) *comb {
	// The powers 2^(combSpacing*i) of the point, and their doubles.
	const n = combTeeth * combBlocks
	powers := make([]point, 0, 2*n)
	acc := point{p.x, p.y, element{1}, element{1}}
	for range n {
		powers = append(powers, acc)
		acc.double()
		powers = append(powers, acc)
		for range combSpacing - 1 {
			acc.double()
		}
	}
	base := make([]affine, 2*n)
	normalise(powers, base)

	table := &comb{entries: make([]affine, combBlocks*combEntries)}
	lowest := make([]point, combBlocks)
	for b := range lowest {
		// The entry with every tooth but the top one negative.
		teeth := base[2*b*combTeeth:]
		minus := func(t int) *affine {
			m := teeth[2*t]
			m.y.neg(&m.y)
			return &m
		}
		lowest[b].addAffines(&teeth[2*(combTeeth-1)], minus(combTeeth-2))
		for t := combTeeth - 3; t >= 0; t-- {
			lowest[b].addAffine(minus(t))
		}
	}
	first := make([]affine, combBlocks)
	normalise(lowest, first)
	for b := range first {
		table.entries[b*combEntries] = first[b]
	}
	sums := make([]point, combBlocks*combEntries/2)
	fresh := make([]affine, combBlocks*combEntries/2)
	for t := range combTeeth - 1 {
		// Turning tooth t from -1 to +1 adds twice its power.
		half := 1 << t
		for b := range combBlocks {
			for i := range half {
				sums[b*half+i].addAffines(&table.entries[b*combEntries+i], &base[2*(b*combTeeth+t)+1])
			}
		}
		normalise(sums[:combBlocks*half], fresh)
		for b := range combBlocks {
			copy(table.entries[b*combEntries+half:], fresh[b*half:][:half])
		}
	}
	return table
}

// digits is a scalar as combing wants it: bit i is set where digit i is +1.
type digits [(combBits + 63) / 64]uint64

// combDigits recodes k. With bits b_i, the digits 2*b_i - 1 sum up to
// 2*b - (2^combBits - 1), so b = (k + 2^combBits - 1) / 2 modulo the order.
func combDigits(k *scalar) digits {
	var d digits
	var b scalar
	b.add(k, &combOffset)
	b.half()
	copy(d[:], b[:])
	return d
}

// group is the value of a row's block as a table index and a sign.
func (d *digits) group(row, block int) (index int, negative bool) {
	var v uint
	for t := range combTeeth {
		pos := (block*combTeeth+t)*combSpacing + row
		v |= uint(d[pos>>6]>>(pos&63)&1) << t
	}
	// With the top tooth negative the entry is that of the complement.
	if v>>(combTeeth-1) == 0 {
		return int(^v & (combEntries - 1)), true
	}
	return int(v & (combEntries - 1)), false
}

// entry is the point that a row's block contributes.
func (c *comb) entry(d *digits, row, block int) affine {
	i, negative := d.group(row, block)
	e := c.entries[block*combEntries+i]
	if negative {
		e.y.neg(&e.y)
	}
	return e
}

// combOffset is 2^combBits - 1 modulo the order.
var combOffset = func() scalar {
	z, one, minusOne := scalar{1}, scalar{1}, scalar{}
	for range combBits {
		z.add(&z, &z)
	}
	minusOne.neg(&one)
	z.add(&z, &minusOne)
	return z
}()
