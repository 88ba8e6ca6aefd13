package dosguard

import (
	"encoding/binary"
	"math/bits"
)

// element is a number modulo p = 2^256 - 2^32 - 977, the field of secp256k1,
// as four little-endian 64-bit limbs. Any value below 2^256 stands for its
// residue, so numbers in [p, 2^256) have two representations; every operation
// takes and returns such values and only isZero and equal look at the residue.
//
// decred's FieldVal spends a hundred 32-bit multiplications on a product and
// this type sixteen 64-bit ones, which is what brings a verification below
// libsecp256k1's. Nothing here is constant-time: it only ever sees public
// keys, public digests and public signatures.
type element [4]uint64

// fold is 2^256 mod p: what overflows bit 256 comes back multiplied by it.
const fold = 1<<32 + 977

// setBytes reads a big-endian number.
func (z *element) setBytes(b *[32]byte) {
	z[3] = binary.BigEndian.Uint64(b[0:])
	z[2] = binary.BigEndian.Uint64(b[8:])
	z[1] = binary.BigEndian.Uint64(b[16:])
	z[0] = binary.BigEndian.Uint64(b[24:])
}

// isZero reports whether z is 0 modulo p: 0 itself or p.
func (z *element) isZero() bool {
	if z[0]|z[1]|z[2]|z[3] == 0 {
		return true
	}
	return z[0] == -fold&(1<<64-1) && z[1]&z[2]&z[3] == 1<<64-1
}

// equal reports whether x and y are the same residue.
func (x *element) equal(y *element) bool {
	var d element
	d.sub(x, y)
	return d.isZero()
}

// add sets z = x + y.
func (z *element) add(x, y *element) {
	r0, c := bits.Add64(x[0], y[0], 0)
	r1, c := bits.Add64(x[1], y[1], c)
	r2, c := bits.Add64(x[2], y[2], c)
	r3, c := bits.Add64(x[3], y[3], c)
	// Folding the carry in can carry once more, when both were near 2^256;
	// what is left is then tiny and the second fold ends in the first limb.
	r0, c = bits.Add64(r0, fold&-c, 0)
	r1, c = bits.Add64(r1, 0, c)
	r2, c = bits.Add64(r2, 0, c)
	r3, c = bits.Add64(r3, 0, c)
	z[0], z[1], z[2], z[3] = r0+fold&-c, r1, r2, r3
}

// sub sets z = x - y.
func (z *element) sub(x, y *element) {
	r0, b := bits.Sub64(x[0], y[0], 0)
	r1, b := bits.Sub64(x[1], y[1], b)
	r2, b := bits.Sub64(x[2], y[2], b)
	r3, b := bits.Sub64(x[3], y[3], b)
	// A borrow added 2^256; taking fold away makes that p. It can borrow once
	// more, when x was tiny and y near 2^256; what is left is then huge.
	r0, b = bits.Sub64(r0, fold&-b, 0)
	r1, b = bits.Sub64(r1, 0, b)
	r2, b = bits.Sub64(r2, 0, b)
	r3, b = bits.Sub64(r3, 0, b)
	z[0], z[1], z[2], z[3] = r0-fold&-b, r1, r2, r3
}

// neg sets z = -x.
func (z *element) neg(x *element) {
	var zero element
	z.sub(&zero, x)
}

// mul sets z = x * y.
func (z *element) mul(x, y *element) {
	var c, t1, t2, t3, t4, t5, t6, t7 uint64
	y0, y1, y2, y3 := y[0], y[1], y[2], y[3]

	// One row per limb of x. A row's low halves and high halves are two carry
	// chains; the row's top limb can't overflow because the partial product
	// is below 2^(256+64*rows).
	a := x[0]
	h0, t0 := bits.Mul64(a, y0)
	h1, l1 := bits.Mul64(a, y1)
	h2, l2 := bits.Mul64(a, y2)
	h3, l3 := bits.Mul64(a, y3)
	t1, c = bits.Add64(l1, h0, 0)
	t2, c = bits.Add64(l2, h1, c)
	t3, c = bits.Add64(l3, h2, c)
	t4 = h3 + c

	a = x[1]
	h0, l0 := bits.Mul64(a, y0)
	h1, l1 = bits.Mul64(a, y1)
	h2, l2 = bits.Mul64(a, y2)
	h3, l3 = bits.Mul64(a, y3)
	t1, c = bits.Add64(t1, l0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, l2, c)
	t4, c = bits.Add64(t4, l3, c)
	t5 = c
	t2, c = bits.Add64(t2, h0, 0)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, h2, c)
	t5 += h3 + c

	a = x[2]
	h0, l0 = bits.Mul64(a, y0)
	h1, l1 = bits.Mul64(a, y1)
	h2, l2 = bits.Mul64(a, y2)
	h3, l3 = bits.Mul64(a, y3)
	t2, c = bits.Add64(t2, l0, 0)
	t3, c = bits.Add64(t3, l1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, l3, c)
	t6 = c
	t3, c = bits.Add64(t3, h0, 0)
	t4, c = bits.Add64(t4, h1, c)
	t5, c = bits.Add64(t5, h2, c)
	t6 += h3 + c

	a = x[3]
	h0, l0 = bits.Mul64(a, y0)
	h1, l1 = bits.Mul64(a, y1)
	h2, l2 = bits.Mul64(a, y2)
	h3, l3 = bits.Mul64(a, y3)
	t3, c = bits.Add64(t3, l0, 0)
	t4, c = bits.Add64(t4, l1, c)
	t5, c = bits.Add64(t5, l2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7 = c
	t4, c = bits.Add64(t4, h0, 0)
	t5, c = bits.Add64(t5, h1, c)
	t6, c = bits.Add64(t6, h2, c)
	t7 += h3 + c

	z.reduce(t0, t1, t2, t3, t4, t5, t6, t7)
}

// sqr sets z = x * x.
func (z *element) sqr(x *element) {
	var c, t1, t2, t3, t4, t5, t6, t7 uint64
	x0, x1, x2, x3 := x[0], x[1], x[2], x[3]

	// The six products off the diagonal count twice.
	h01, l01 := bits.Mul64(x0, x1)
	h02, l02 := bits.Mul64(x0, x2)
	h03, l03 := bits.Mul64(x0, x3)
	h12, l12 := bits.Mul64(x1, x2)
	h13, l13 := bits.Mul64(x1, x3)
	h23, l23 := bits.Mul64(x2, x3)
	t1 = l01
	t2, c = bits.Add64(h01, l02, 0)
	t3, c = bits.Add64(h02, l03, c)
	t4, c = bits.Add64(h03, l13, c)
	t5, c = bits.Add64(h13, l23, c)
	t6 = h23 + c
	t3, c = bits.Add64(t3, l12, 0)
	t4, c = bits.Add64(t4, h12, c)
	t5, c = bits.Add64(t5, 0, c)
	t6 += c

	t7 = t6 >> 63
	t6 = t6<<1 | t5>>63
	t5 = t5<<1 | t4>>63
	t4 = t4<<1 | t3>>63
	t3 = t3<<1 | t2>>63
	t2 = t2<<1 | t1>>63
	t1 <<= 1

	h0, t0 := bits.Mul64(x0, x0)
	h1, l1 := bits.Mul64(x1, x1)
	h2, l2 := bits.Mul64(x2, x2)
	h3, l3 := bits.Mul64(x3, x3)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, h2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7 += h3 + c

	z.reduce(t0, t1, t2, t3, t4, t5, t6, t7)
}

// reduce sets z to the 512-bit number t modulo p.
func (z *element) reduce(t0, t1, t2, t3, t4, t5, t6, t7 uint64) {
	h0, l0 := bits.Mul64(t4, fold)
	h1, l1 := bits.Mul64(t5, fold)
	h2, l2 := bits.Mul64(t6, fold)
	h3, l3 := bits.Mul64(t7, fold)
	t0, c := bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, l1, c)
	t2, c = bits.Add64(t2, l2, c)
	t3, c = bits.Add64(t3, l3, c)
	t4 = c
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	t4 += h3 + c

	// t4 < 2^34, so this adds less than 2^67; if it carries out of the top,
	// the rest is below 2^67 and the last fold can't carry again.
	h0, l0 = bits.Mul64(t4, fold)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, h0, c)
	t2, c = bits.Add64(t2, 0, c)
	t3, c = bits.Add64(t3, 0, c)
	t0, c = bits.Add64(t0, fold&-c, 0)
	z[0], z[1], z[2], z[3] = t0, t1+c, t2, t3
}

// invert sets z = 1/x by Fermat, x^(p-2), and 0 for 0. Only table building
// needs it.
func (z *element) invert(x *element) {
	// p-2 is 223 ones, a zero, 22 ones and 0000101101: the runs come from an
	// addition chain, the tail bit by bit.
	var x2, x3, x6, x12, x22, x44, x88, x176, x220, x223, t element
	pow := func(z, x *element, n int, y *element) { // z = x^(2^n) * y
		t.sqr(x)
		for range n - 1 {
			t.sqr(&t)
		}
		z.mul(&t, y)
	}
	a := *x
	pow(&x2, &a, 1, &a)
	pow(&x3, &x2, 1, &a)
	pow(&x6, &x3, 3, &x3)
	pow(&x12, &x6, 6, &x6)
	pow(&x22, &x12, 6, &x6)   // 18 ones
	pow(&x22, &x22, 3, &x3)   // 21
	pow(&x22, &x22, 1, &a)    // 22
	pow(&x44, &x22, 22, &x22) // and so on
	pow(&x88, &x44, 44, &x44)
	pow(&x176, &x88, 88, &x88)
	pow(&x220, &x176, 44, &x44)
	pow(&x223, &x220, 3, &x3)
	pow(&t, &x223, 23, &x22)
	pow(&t, &t, 5, &a)
	pow(&t, &t, 3, &x2)
	pow(z, &t, 2, &a)
}
