package dosguard

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/stretchr/testify/require"
)

func (z *scalar) big() *big.Int { return (*element)(z).big() }

func scalarFromBig(v *big.Int) (z scalar) {
	var b [32]byte
	v.FillBytes(b[:])
	z.setDigest(&b)
	return z
}

// edgeScalars are small numbers, powers of two and their neighbours, both ends
// of the range, its middle, and quotients of Fibonacci-like and huge shape.
func edgeScalars() []scalar {
	n := order.big()
	var all []scalar
	put := func(v *big.Int) {
		v = new(big.Int).Mod(v, n)
		all = append(all, scalarFromBig(v), scalarFromBig(new(big.Int).Sub(n, new(big.Int).Add(v, big.NewInt(1)))))
	}
	for i := range 256 {
		p := new(big.Int).Lsh(big.NewInt(1), uint(i))
		put(p)
		put(new(big.Int).Sub(p, big.NewInt(1)))
		put(new(big.Int).Add(p, big.NewInt(1)))
		put(new(big.Int).Quo(n, p))
		put(new(big.Int).Add(new(big.Int).Quo(n, p), big.NewInt(1)))
	}
	// n times the golden ratio's inverse gives a quotient of 1 at every step.
	phi, _ := new(big.Int).SetString("618033988749894848204586834365638117720309179805762862135448622705260462", 10)
	ten72 := new(big.Int).Exp(big.NewInt(10), big.NewInt(72), nil)
	put(new(big.Int).Quo(new(big.Int).Mul(n, phi), ten72))
	return all
}

func checkScalarOps(t *testing.T, x, y scalar) {
	t.Helper()
	n := order.big()
	bx, by := x.big(), y.big()
	var z scalar
	z.mul(&x, &y)
	require.Equal(t, scalarFromBig(new(big.Int).Mod(new(big.Int).Mul(bx, by), n)), z, "%x * %x", x, y)
	z.add(&x, &y)
	require.Equal(t, scalarFromBig(new(big.Int).Mod(new(big.Int).Add(bx, by), n)), z, "%x + %x", x, y)
	z = x
	z.half()
	z.add(&z, &z)
	require.Equal(t, x, z)
	require.Equal(t, bx.Cmp(by) < 0, x.less(&y))
	require.Equal(t, new(big.Int).Lsh(bx, 1).Cmp(n) > 0, x.isHigh())
	if !x.isZero() {
		z.invert(&x)
		require.Equal(t, scalarFromBig(new(big.Int).ModInverse(bx, n)), z, "1/%x", x)
	}
}

func TestScalarAgreesWithBigIntegers(t *testing.T) {
	t.Parallel()
	edges := edgeScalars()
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, x := range edges {
		checkScalarOps(t, x, edges[rnd.IntN(len(edges))])
	}
	for range 3000 {
		x := scalarFromBig(new(big.Int).Rsh((&element{rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64()}).big(), uint(rnd.IntN(256))))
		y := scalarFromBig((&element{rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64()}).big())
		checkScalarOps(t, x, y)
	}
}

// FuzzScalar compares the scalars with math/big.
func FuzzScalar(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g, h, i uint64) {
		checkScalarOps(t, scalarFromBig((&element{a, b, c, d}).big()), scalarFromBig((&element{e, g, h, i}).big()))
	})
}

func BenchmarkScalarInvert(b *testing.B) {
	// A different operand each time: the cost depends on it.
	b.Run("dosguard", func(b *testing.B) {
		x := scalar{77}
		for b.Loop() {
			x.invert(&x)
			x.add(&x, &combOffset)
		}
	})
	b.Run("decred", func(b *testing.B) {
		var s, t secp256k1.ModNScalar
		s.SetInt(77)
		t.SetInt(77).InverseNonConst()
		for b.Loop() {
			s.InverseNonConst()
			s.Add(&t)
		}
	})
}

func BenchmarkScalarMul(b *testing.B) {
	x, y := scalar{1, 2, 3, 4 << 60}, scalar{5, 6, 7, 8 << 58}
	for b.Loop() {
		x.mul(&x, &y)
	}
}
