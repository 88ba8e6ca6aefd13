package dosguard

import (
	"encoding/binary"
	"math/bits"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// scalar is a number modulo n, the order of the group of secp256k1, below n,
// as four little-endian 64-bit limbs. Like element it isn't constant-time and
// only ever sees public values; private keys stay in decred's types.
type scalar [4]uint64

var (
	// order is n = 2^256 - orderFold.
	order = scalar{0xbfd25e8cd0364141, 0xbaaedce6af48a03b, 0xfffffffffffffffe, 0xffffffffffffffff}
	// halfOrder is (n-1)/2, the largest s of a canonical signature.
	halfOrder = scalar{0xdfe92f46681b20a0, 0x5d576e7357a4501d, 0xffffffffffffffff, 0x7fffffffffffffff}
)

// orderFold is 2^256 mod n, three limbs of which the highest is 1.
const (
	orderFold0 = 0x402da1732fc9bebf
	orderFold1 = 0x4551231950b75fc4
)

// setBytes reads a big-endian number as it is and reports whether it is below
// the order.
func (z *scalar) setBytes(b *[32]byte) bool {
	z[3] = binary.BigEndian.Uint64(b[0:])
	z[2] = binary.BigEndian.Uint64(b[8:])
	z[1] = binary.BigEndian.Uint64(b[16:])
	z[0] = binary.BigEndian.Uint64(b[24:])
	return z.less(&order)
}

// setDigest reads a big-endian number modulo the order.
func (z *scalar) setDigest(b *[32]byte) {
	if !z.setBytes(b) {
		z.reduceOnce(0)
	}
}

func (x *scalar) isZero() bool { return x[0]|x[1]|x[2]|x[3] == 0 }

// less compares plain numbers.
func (x *scalar) less(y *scalar) bool {
	_, b := bits.Sub64(x[0], y[0], 0)
	_, b = bits.Sub64(x[1], y[1], b)
	_, b = bits.Sub64(x[2], y[2], b)
	_, b = bits.Sub64(x[3], y[3], b)
	return b == 1
}

// isHigh reports whether x > n/2.
func (x *scalar) isHigh() bool { return halfOrder.less(x) }

// reduceOnce takes the order away once if top*2^256 + z reaches it.
func (z *scalar) reduceOnce(top uint64) {
	r0, b := bits.Sub64(z[0], order[0], 0)
	r1, b := bits.Sub64(z[1], order[1], b)
	r2, b := bits.Sub64(z[2], order[2], b)
	r3, b := bits.Sub64(z[3], order[3], b)
	if top != 0 || b == 0 {
		z[0], z[1], z[2], z[3] = r0, r1, r2, r3
	}
}

// decred converts z.
func (z *scalar) decred() *secp256k1.ModNScalar {
	var b [32]byte
	for i, limb := range z {
		binary.BigEndian.PutUint64(b[24-8*i:], limb)
	}
	out := new(secp256k1.ModNScalar)
	out.SetBytes(&b)
	return out
}

// add sets z = x + y.
func (z *scalar) add(x, y *scalar) {
	var c uint64
	z[0], c = bits.Add64(x[0], y[0], 0)
	z[1], c = bits.Add64(x[1], y[1], c)
	z[2], c = bits.Add64(x[2], y[2], c)
	z[3], c = bits.Add64(x[3], y[3], c)
	z.reduceOnce(c)
}

// neg sets z = -x for x other than 0.
func (z *scalar) neg(x *scalar) {
	var b uint64
	z[0], b = bits.Sub64(order[0], x[0], 0)
	z[1], b = bits.Sub64(order[1], x[1], b)
	z[2], b = bits.Sub64(order[2], x[2], b)
	z[3], _ = bits.Sub64(order[3], x[3], b)
}

// half sets z = z / 2.
func (z *scalar) half() {
	var c uint64
	if z[0]&1 == 1 {
		z[0], c = bits.Add64(z[0], order[0], 0)
		z[1], c = bits.Add64(z[1], order[1], c)
		z[2], c = bits.Add64(z[2], order[2], c)
		z[3], c = bits.Add64(z[3], order[3], c)
	}
	z[0] = z[0]>>1 | z[1]<<63
	z[1] = z[1]>>1 | z[2]<<63
	z[2] = z[2]>>1 | z[3]<<63
	z[3] = z[3]>>1 | c<<63
}

// mul sets z = x * y.
func (z *scalar) mul(x, y *scalar) {
	var t [8]uint64
	for i, a := range x {
		var carry uint64
		for j, b := range y {
			t[i+j], carry = mulAdd(a, b, t[i+j], carry)
		}
		t[i+4] = carry
	}
	// 512 bits: the upper half, times 2^256 mod n, is added to the lower; at
	// most 386 bits are left, then 259, then one subtraction's worth.
	high := [5]uint64{t[4], t[5], t[6], t[7]}
	*z = scalar(t[:4])
	for high != [5]uint64{} {
		high = z.addFolded(&high)
	}
	z.reduceOnce(0)
}

// addFolded adds high*2^256 modulo n to z and returns what is carried past
// 2^256.
func (z *scalar) addFolded(high *[5]uint64) (rest [5]uint64) {
	sum := [9]uint64{z[0], z[1], z[2], z[3]}
	for i, h := range high {
		if h == 0 {
			continue
		}
		var carry, c uint64
		sum[i], carry = mulAdd(h, orderFold0, sum[i], 0)
		sum[i+1], carry = mulAdd(h, orderFold1, sum[i+1], carry)
		sum[i+2], c = bits.Add64(sum[i+2], h, 0)
		sum[i+2], carry = bits.Add64(sum[i+2], carry, 0)
		for j := i + 3; j < len(sum) && c+carry != 0; j++ {
			sum[j], carry = bits.Add64(sum[j], c+carry, 0)
			c = 0
		}
	}
	*z = scalar(sum[:4])
	return [5]uint64(sum[4:])
}

// mulAdd returns a*b + c + d, which never exceeds 128 bits.
func mulAdd(a, b, c, d uint64) (lo, hi uint64) {
	hi, lo = bits.Mul64(a, b)
	lo, carry := bits.Add64(lo, c, 0)
	hi += carry
	lo, carry = bits.Add64(lo, d, 0)
	return lo, hi + carry
}
