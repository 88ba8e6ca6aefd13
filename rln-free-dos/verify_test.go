package dosguard

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// oracle is what Verify has to agree with: decred's verification, and s ≤ n/2.
func oracle(key *secp256k1.PublicKey, digest [32]byte, sig []byte) bool {
	if len(sig) != 64 {
		return false
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || s.IsOverHalfOrder() {
		return false
	}
	return ecdsa.NewSignature(&r, &s).Verify(digest[:], key)
}

func agree(t testing.TB, key *PublicKey, digest [32]byte, sig []byte) bool {
	t.Helper()
	want := oracle(key.key, digest, sig)
	if got := key.Verify(digest, sig); got != want {
		t.Fatalf("key %s, digest %x, signature %x: %v, decred says %v", key, digest, sig, got, want)
	}
	return want
}

// fixedKey is a key whose discrete logarithm d is known, if it isn't zero.
type fixedKey struct {
	*PublicKey
	d scalar
}

// fixedKeys are keys that make sums collide: small multiples of the generator
// and of 1/2, the ends of comb blocks, all with their negatives, and the
// endomorphism's multiples, which share y; one unknown and some usual ones.
var fixedKeys = sync.OnceValue(func() []fixedKey {
	n := order.big()
	half := new(big.Int).ModInverse(big.NewInt(2), n)
	lambda, _ := new(big.Int).SetString("5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72", 16)
	ds := []*big.Int{
		big.NewInt(1), big.NewInt(2), big.NewInt(3), big.NewInt(5), half, lambda,
		new(big.Int).Lsh(big.NewInt(1), combTeeth*combSpacing),
		new(big.Int).Lsh(big.NewInt(1), combSpacing),
		new(big.Int).SetBytes([]byte("an ordinary secret of 32 bytes..")),
	}
	var keys []fixedKey
	for _, d := range ds {
		for _, d := range []*big.Int{d, new(big.Int).Sub(n, d)} {
			s := scalarFromBig(d)
			keys = append(keys, fixedKey{newPublicKey(secp256k1.NewPrivateKey(s.decred()).PubKey()), s})
		}
	}
	return keys
})

// construct returns a digest and a signature for which a verifier computes u1 and
// u2, up to the sign of both, and whose r is x(u1*G + u2*Q), which makes it valid,
// or the given r if that sum is no point.
func construct(key *secp256k1.PublicKey, u1, u2, r scalar) (digest [32]byte, sig [64]byte) {
	var q, a, b, sum secp256k1.JacobianPoint
	key.AsJacobian(&q)
	secp256k1.ScalarBaseMultNonConst(u1.decred(), &a)
	secp256k1.ScalarMultNonConst(u2.decred(), &q, &b)
	secp256k1.AddNonConst(&a, &b, &sum)
	if !sum.Z.IsZero() && !(sum.X.IsZero() && sum.Y.IsZero()) {
		sum.ToAffine()
		r.setDigest(sum.X.Bytes())
	}
	var s, e scalar
	s.invert(&u2)
	s.mul(&s, &r) // u2 = r/s
	e.mul(&u1, &s)
	if s.isHigh() {
		s.neg(&s)
	}
	put := func(out []byte, z *scalar) {
		for i, limb := range z {
			binary.BigEndian.PutUint64(out[24-8*i:], limb)
		}
	}
	put(digest[:], &e)
	put(sig[:32], &r)
	put(sig[32:], &s)
	return digest, sig
}

func TestVerifyAgreesOnRandomSignatures(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	keys := fixedKeys()
	for i := range 150 / slow {
		key := keys[i%len(keys)]
		digest := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, rnd.Uint64()))
		sig := newPrivateKey(secp256k1.NewPrivateKey(key.d.decred())).SignDigest(digest)
		require.True(t, agree(t, key.PublicKey, digest, sig))
		for range 2 {
			bad := append([]byte(nil), sig...)
			bad[rnd.IntN(64)] ^= 1 << rnd.IntN(8)
			agree(t, key.PublicKey, digest, bad)
		}
		digest[rnd.IntN(32)] ^= 1 << rnd.IntN(8)
		require.False(t, agree(t, key.PublicKey, digest, sig))
	}
}

// Every way in which two points to be added can be equal or opposite, as far as
// somebody who knows the key's discrete logarithm can construct it.
func TestVerifyExceptionalSums(t *testing.T) {
	t.Parallel()
	one := scalar{1}
	multiples := []scalar{one, {2}, {3}, {1 << combSpacing}, halfOrder, combOffset}
	for i, key := range fixedKeys() {
		for j, m := range multiples {
			if (i+j)%slow != 0 {
				continue
			}
			for _, u2 := range []scalar{m, scalarFromBig(new(big.Int).Neg(m.big()).Mod(new(big.Int).Neg(m.big()), order.big()))} {
				var same, opposite, double scalar
				same.mul(&u2, &key.d) // u1*G = u2*Q
				opposite.neg(&same)   // the sum is no point
				double.add(&same, &same)
				for _, u1 := range []scalar{same, opposite, double, {}, one, u2} {
					digest, sig := construct(key.key, u1, u2, one)
					valid := agree(t, key.PublicKey, digest, sig[:])
					assert.Equal(t, u1 != opposite, valid)
				}
			}
		}
	}
}

// The fast sum can't do these, and says so; without the slow path valid
// signatures would be refused.
func TestVerifyExceptionalSumsAreNoticed(t *testing.T) {
	g := generatorComb()
	u := scalarFromBig(new(big.Int).SetBytes([]byte("any number at all, of 32 bytes..")))
	var minus scalar
	minus.neg(&u)
	sum := mulAddCombs(g, &u, g, &u)
	assert.True(t, sum.zz.isZero(), "P + P")
	sum = mulAddCombs(g, &u, g, &minus)
	assert.True(t, sum.zz.isZero(), "P - P")
	sum = mulAddCombs(g, &u, fixedKeys()[16].comb(), &minus)
	assert.False(t, sum.zz.isZero())
}

// Sparse, dense and regular scalars on either side of the sum.
func TestCombMultiplies(t *testing.T) {
	t.Parallel()
	key := fixedKeys()[16] // the ordinary one
	for i, u := range edgeScalars() {
		if i%(5*slow) != 0 {
			continue
		}
		digest, sig := construct(key.key, u, scalar{uint64(i) + 1}, scalar{1})
		require.True(t, agree(t, key.PublicKey, digest, sig[:]))
		if !u.isZero() {
			digest, sig = construct(key.key, scalar{uint64(i) + 1}, u, scalar{1})
			require.True(t, agree(t, key.PublicKey, digest, sig[:]))
		}
	}
}

func TestVerifyEdges(t *testing.T) {
	key := fixedKeys()[0]
	priv := newPrivateKey(secp256k1.NewPrivateKey(key.d.decred()))
	n := order.big()
	bytes32 := func(v *big.Int) (b [32]byte) { v.FillBytes(b[:]); return b }
	all := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	numbers := []*big.Int{
		big.NewInt(0), big.NewInt(1), big.NewInt(2), halfOrder.big(), new(big.Int).Add(halfOrder.big(), big.NewInt(1)),
		new(big.Int).Sub(n, big.NewInt(1)), n, new(big.Int).Add(n, big.NewInt(1)),
		primeMinusOrder.big(), new(big.Int).Sub(primeMinusOrder.big(), big.NewInt(1)), fieldPrime, all,
	}
	for i, e := range numbers {
		for j, r := range numbers {
			for k, s := range numbers {
				if (i+j+k)%slow != 0 {
					continue
				}
				rb, sb := bytes32(r), bytes32(s)
				agree(t, key.PublicKey, bytes32(e), append(rb[:], sb[:]...))
			}
		}
		// A digest at or above n is one modulo n.
		digest := bytes32(e)
		assert.True(t, agree(t, key.PublicKey, digest, priv.SignDigest(digest)))
	}

	digest := sha256.Sum256([]byte("x"))
	sig := priv.SignDigest(digest)
	for _, length := range []int{0, 1, 32, 63, 65, 128} {
		assert.False(t, agree(t, key.PublicKey, digest, append(sig, sig...)[:length]))
	}
	// The other form of the same signature.
	var s scalar
	s.setBytes((*[32]byte)(sig[32:]))
	s.neg(&s)
	high := bytes32(s.big())
	assert.False(t, agree(t, key.PublicKey, digest, append(append([]byte(nil), sig[:32]...), high[:]...)))
}

// A sum whose x isn't below n: r is x - n then, so r*ZZ alone would miss it.
func TestVerifyXAboveOrder(t *testing.T) {
	found := 0
	for k := int64(0); found < 5; k++ {
		var x, y secp256k1.FieldVal
		var b [32]byte
		new(big.Int).Add(order.big(), big.NewInt(k)).FillBytes(b[:])
		x.SetBytes(&b)
		if !secp256k1.DecompressY(&x, false, &y) {
			continue
		}
		found++
		y.Normalize()
		// Q = (R - u1*G) / u2 for the point R with this x.
		u1, u2 := scalar{uint64(k) + 7}, scalar{11, 13}
		var negU1, inv scalar
		negU1.neg(&u1)
		inv.invert(&u2)
		one := new(secp256k1.FieldVal).SetInt(1)
		R := secp256k1.MakeJacobianPoint(&x, &y, one)
		var g, sum, q secp256k1.JacobianPoint
		secp256k1.ScalarBaseMultNonConst(negU1.decred(), &g)
		secp256k1.AddNonConst(&R, &g, &sum)
		secp256k1.ScalarMultNonConst(inv.decred(), &sum, &q)
		q.ToAffine()
		key := newPublicKey(secp256k1.NewPublicKey(&q.X, &q.Y))

		digest, sig := construct(key.key, u1, u2, scalar{})
		var r scalar
		r.setBytes((*[32]byte)(sig[:32]))
		if k == 0 {
			continue // r = 0
		}
		require.True(t, r.less(&primeMinusOrder))
		require.True(t, agree(t, key, digest, sig[:]))
		sig[31]++
		require.False(t, agree(t, key, digest, sig[:]))
	}
}

func TestVerifyConcurrently(t *testing.T) {
	priv, err := GenerateKey()
	require.NoError(t, err)
	digest := sha256.Sum256([]byte("x"))
	sig := priv.SignDigest(digest)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { assert.True(t, priv.PublicKey().Verify(digest, sig)) })
	}
	wg.Wait()
	assert.LessOrEqual(t, TableSize, 1<<20)
	assert.Equal(t, TableSize/64, len(priv.public.table.entries))
}

// FuzzVerify compares Verify with decred's verification. Kind chooses between raw
// input, a valid signature with bits flipped, and a constructed sum.
func FuzzVerify(f *testing.F) {
	pad := func(b ...byte) []byte { return append(make([]byte, 32-len(b)), b...) }
	for kind := range byte(4) {
		f.Add(byte(0), kind, pad(1), pad(), pad())
		f.Add(byte(16), kind, pad(1), pad(2), pad(3))
		f.Add(byte(1), kind, pad(7), pad(7), pad(7))
		f.Add(byte(2), kind, order.big().Bytes(), halfOrder.big().Bytes(), primeMinusOrder.big().Bytes())
	}
	f.Fuzz(func(t *testing.T, which, kind byte, a, b, c []byte) {
		keys := fixedKeys()
		key := keys[int(which)%len(keys)]
		var x, y, z [32]byte
		copy(x[:], a)
		copy(y[:], b)
		copy(z[:], c)
		switch kind % 4 {
		case 0:
			agree(t, key.PublicKey, x, append(y[:], c...))
		case 1:
			sig := newPrivateKey(secp256k1.NewPrivateKey(key.d.decred())).SignDigest(x)
			for i := range 32 {
				sig[i] ^= y[i]
				sig[32+i] ^= z[i]
			}
			agree(t, key.PublicKey, x, sig)
		default:
			var u1, u2, r scalar
			u1.setDigest(&x)
			u2.setDigest(&y)
			r.setDigest(&z)
			if u2.isZero() || r.isZero() {
				return
			}
			if kind%4 == 3 { // u1*G and u2*Q are c times each other
				u1.mul(&u2, &key.d)
				u1.mul(&u1, &r)
			}
			digest, sig := construct(key.key, u1, u2, r)
			agree(t, key.PublicKey, digest, sig[:])
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	priv, err := GenerateKey()
	require.NoError(b, err)
	digest := sha256.Sum256([]byte("x"))
	sig := priv.SignDigest(digest)
	public := priv.PublicKey()
	r, s := new(secp256k1.ModNScalar), new(secp256k1.ModNScalar)
	r.SetByteSlice(sig[:32])
	s.SetByteSlice(sig[32:])
	public.Verify(digest, sig)

	b.Run("dosguard", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !public.Verify(digest, sig) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("decred", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !ecdsa.NewSignature(r, s).Verify(digest[:], public.key) {
				b.Fatal("refused")
			}
		}
	})
}

// BenchmarkTable is what the first Verify of a key costs.
func BenchmarkTable(b *testing.B) {
	priv, err := GenerateKey()
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		newPublicKey(priv.key.PubKey()).comb()
	}
}
