package dosguard

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var fieldPrime, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f", 16)

func (z *element) big() *big.Int {
	v := new(big.Int)
	for i := 3; i >= 0; i-- {
		v.Lsh(v, 64)
		v.Or(v, new(big.Int).SetUint64(z[i]))
	}
	return v
}

// edgeElements are the values where carries and foldings meet: limbs of all
// ones and zeros in every combination, and the neighbourhoods of 0, p, 2^256.
func edgeElements() []element {
	limbs := []uint64{0, 1, 1<<32 - 1, 1 << 63, 1<<64 - 2, 1<<64 - 1}
	var all []element
	for _, a := range limbs {
		for _, b := range limbs {
			for _, c := range limbs {
				for _, d := range limbs {
					all = append(all, element{a, b, c, d})
				}
			}
		}
	}
	for _, low := range []uint64{-fold & (1<<64 - 1), -fold&(1<<64-1) - 1, -fold&(1<<64-1) + 1, fold, fold - 1} {
		all = append(all, element{low, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1}, element{low, 0, 0, 0})
	}
	return all
}

func checkFieldOps(t *testing.T, x, y element) {
	t.Helper()
	mod := func(v *big.Int) *big.Int { return v.Mod(v, fieldPrime) }
	bx, by := x.big(), y.big()
	for name, op := range map[string]struct {
		got  func(z *element)
		want *big.Int
	}{
		"add": {func(z *element) { z.add(&x, &y) }, mod(new(big.Int).Add(bx, by))},
		"sub": {func(z *element) { z.sub(&x, &y) }, mod(new(big.Int).Sub(bx, by))},
		"mul": {func(z *element) { z.mul(&x, &y) }, mod(new(big.Int).Mul(bx, by))},
		"sqr": {func(z *element) { z.sqr(&x) }, mod(new(big.Int).Mul(bx, bx))},
		"neg": {func(z *element) { z.neg(&x) }, mod(new(big.Int).Neg(bx))},
	} {
		var z element
		op.got(&z)
		if mod(z.big()).Cmp(op.want) != 0 {
			t.Fatalf("%s of %x and %x: got %x, want %x", name, x, y, z.big(), op.want)
		}
	}
	require.Equal(t, mod(new(big.Int).Sub(bx, by)).Sign() == 0, x.equal(&y))
	require.Equal(t, mod(new(big.Int).Set(bx)).Sign() == 0, x.isZero())
}

func TestFieldAgreesWithBigIntegers(t *testing.T) {
	t.Parallel()
	edges := edgeElements()
	rnd := rand.New(rand.NewPCG(1, 2))
	for i, x := range edges {
		for range 6 {
			checkFieldOps(t, x, edges[rnd.IntN(len(edges))])
		}
		checkFieldOps(t, x, x)
		checkFieldOps(t, x, element{rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64()})
		if i%40 == 0 {
			var inv element
			inv.invert(&x)
			want := new(big.Int).Exp(x.big(), new(big.Int).Sub(fieldPrime, big.NewInt(2)), fieldPrime)
			require.Zero(t, want.Cmp(inv.big().Mod(inv.big(), fieldPrime)))
		}
	}
}

// Operations may write over their operands.
func TestFieldAliasing(t *testing.T) {
	x, y := element{1, 2, 3, 4}, element{5, 6, 7, 8}
	var want element
	want.mul(&x, &y)
	z := x
	z.mul(&z, &y)
	require.Equal(t, want, z)
	z = y
	z.mul(&x, &z)
	require.Equal(t, want, z)
	want.invert(&x)
	z = x
	z.invert(&z)
	require.Equal(t, want, z)
}

// FuzzField compares the field with math/big.
func FuzzField(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g, h, i uint64) {
		checkFieldOps(t, element{a, b, c, d}, element{e, g, h, i})
	})
}

func BenchmarkFieldMul(b *testing.B) {
	x, y := element{1, 2, 3, 4 << 60}, element{5 << 59, 6, 7, 8 << 58}
	for b.Loop() {
		x.mul(&x, &y)
	}
}

func BenchmarkFieldSqr(b *testing.B) {
	x := element{1, 2, 3, 4 << 60}
	for b.Loop() {
		x.sqr(&x)
	}
}
