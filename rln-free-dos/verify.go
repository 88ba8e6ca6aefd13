package dosguard

import (
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// SignatureSize is the length of a signature in bytes: r and s as 32-byte
// big-endian numbers, without a recovery byte.
const SignatureSize = 64

// generatorComb is the table of the curve's generator, a constant that is
// computed by the first verification in the process.
var generatorComb = sync.OnceValue(func() *comb {
	params := secp256k1.Params()
	var x, y [32]byte
	params.Gx.FillBytes(x[:])
	params.Gy.FillBytes(y[:])
	return newComb(affineFromBytes(&x, &y))
})

func affineFromBytes(x, y *[32]byte) (p affine) {
	p.x.setBytes(x)
	p.y.setBytes(y)
	return p
}

// signature is a parsed r || s.
type signature struct{ r, s scalar }

// parseSignature reads 64 bytes with r and s in [1, n-1].
func parseSignature(b []byte) (sig signature, ok bool) {
	if len(b) != SignatureSize {
		return sig, false
	}
	ok = sig.r.setBytes((*[32]byte)(b)) && sig.s.setBytes((*[32]byte)(b[32:])) &&
		!sig.r.isZero() && !sig.s.isZero()
	return sig, ok
}

// Verify reports whether sig is a signature of digest by the key's owner. It
// must be 64 bytes, r followed by s. Of the two forms of every signature it takes
// the one with s at most n/2, as libsecp256k1 does and with it every verifier of
// 57/STATUS-SIMPLE-SCALING.
//
// It doesn't allocate, except that a key's first call computes the key's
// table, which takes one or two milliseconds and TableSize bytes. It is safe for
// concurrent use.
func (k *PublicKey) Verify(digest [32]byte, sig []byte) bool {
	parsed, ok := parseSignature(sig)
	return ok && !parsed.s.isHigh() && k.verify(&digest, &parsed)
}

// verify is plain ECDSA.
func (k *PublicKey) verify(digest *[32]byte, sig *signature) bool {
	// u1 = digest/s, u2 = r/s; r must be the x of u1*G + u2*Q, modulo n.
	var w, u1, u2 scalar
	u1.setDigest(digest)
	w.invert(&sig.s)
	u1.mul(&u1, &w)
	u2.mul(&sig.r, &w)

	sum := mulAddCombs(generatorComb(), &u1, k.comb(), &u2)
	if sum.zz.isZero() {
		return k.verifySlowly(digest, sig)
	}

	// x = X/ZZ is r, or r+n when that is a field element too.
	var x, r element
	r = element(sig.r)
	x.mul(&r, &sum.zz)
	if x.equal(&sum.x) {
		return true
	}
	if !sig.r.less(&primeMinusOrder) {
		return false
	}
	n := element(order)
	r.add(&r, &n)
	x.mul(&r, &sum.zz)
	return x.equal(&sum.x)
}

// primeMinusOrder is p - n.
var primeMinusOrder = scalar{0x402da1722fc9baee, 0x4551231950b75fc4, 1, 0}

// mulAddCombs returns u1 times g's point plus u2 times q's.
func mulAddCombs(g *comb, u1 *scalar, q *comb, u2 *scalar) (sum point) {
	d1, d2 := combDigits(u1), combDigits(u2)
	a, b := g.entry(&d1, combSpacing-1, 0), q.entry(&d2, combSpacing-1, 0)
	sum.addAffines(&a, &b)
	for row := combSpacing - 1; row >= 0; row-- {
		if row != combSpacing-1 {
			sum.double()
		}
		for block := range combBlocks {
			if row == combSpacing-1 && block == 0 {
				continue
			}
			a = g.entry(&d1, row, block)
			sum.addAffine(&a)
			b = q.entry(&d2, row, block)
			sum.addAffine(&b)
		}
	}
	return sum
}

// verifySlowly is decred's verification. It settles the cases in which two of
// the points to be added had the same x: they don't occur by chance, and
// somebody who constructs one gains nothing but the time that every other
// implementation needs.
func (k *PublicKey) verifySlowly(digest *[32]byte, sig *signature) bool {
	return ecdsa.NewSignature(sig.r.decred(), sig.s.decred()).Verify(digest[:], k.key)
}
