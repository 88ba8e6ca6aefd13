package dosguard

import "math/bits"

// invert sets z = 1/x modulo the order, for x other than 0.
//
// It is Lehmer's form of the extended Euclidean algorithm: quotients are found
// on the leading 64 bits of both numbers for as long as they are certain, some
// 32 bits' worth of steps at a time, and then applied to the long numbers at
// once.
func (z *scalar) invert(x *scalar) {
	// Throughout, a = -u*x and b = v*x modulo n, with both signs turned when
	// flipped. u and v only grow, up to n, when the steps are over.
	a, b := order, *x
	u, v := scalar{}, scalar{1}
	flipped := false

	for b[1]|b[2]|b[3] != 0 {
		m := quotients(leading(&a, &b))
		if m.b0 == 0 {
			// No quotient is certain: b is much shorter than a.
			step(&a, &b, &u, &v)
			flipped = !flipped
			continue
		}
		if m.odd {
			a, b = linear(&b, &a, m.b0, m.a0), linear(&a, &b, m.a1, m.b1)
			flipped = !flipped
		} else {
			a, b = linear(&a, &b, m.a0, m.b0), linear(&b, &a, m.b1, m.a1)
		}
		u, v = combine(&u, &v, m.a0, m.b0), combine(&u, &v, m.a1, m.b1)
	}
	if a[1]|a[2]|a[3] != 0 && b[0] != 0 {
		stepWord(&a, &b, &u, &v)
		flipped = !flipped
	}

	// Both are words now, and the multipliers of what remains are too.
	r, s := a[0], b[0]
	m := matrix{a0: 1, b1: 1}
	for s != 0 {
		q := r / s
		r, s = s, r-q*s
		m.a0, m.a1 = m.a1, m.a0+q*m.a1
		m.b0, m.b1 = m.b1, m.b0+q*m.b1
		m.odd = !m.odd
	}
	// r is 1, the greatest common divisor with a prime.
	u = combine(&u, &v, m.a0, m.b0)
	if m.odd == flipped {
		z.neg(&u)
	} else {
		*z = u
	}
}

// matrix is the effect of some steps: (a, b) becomes (a0*a - b0*b, b1*b - a1*a),
// or the negatives of both when the steps were odd in number.
type matrix struct {
	a0, b0 uint64
	a1, b1 uint64
	odd    bool
}

// leading returns the 64 bits from a's highest set bit on, of both numbers.
func leading(a, b *scalar) (uint64, uint64) {
	i := 3
	for a[i] == 0 {
		i--
	}
	s := uint(bits.LeadingZeros64(a[i]))
	if i == 0 {
		return a[0] << s, b[0] << s
	}
	return a[i]<<s | a[i-1]>>1>>(63-s), b[i]<<s | b[i-1]>>1>>(63-s)
}

// quotients runs Euclid's algorithm on leading digits while every quotient is
// certain to be that of the full numbers (Collins' condition, looked at one
// step ahead).
func quotients(a, b uint64) matrix {
	m := matrix{a0: 1, b1: 1}
	for {
		// m stands for (a, b). Taking the next step needs its result to be
		// certain too.
		if b < m.b1 || b == 0 {
			return m
		}
		q := a / b
		r := a - q*b
		a2, b2 := m.a0+q*m.a1, m.b0+q*m.b1
		if r < b2 || b-r < m.b1+b2 {
			return m
		}
		a, b = b, r
		m.a0, m.a1, m.b0, m.b1 = m.a1, a2, m.b1, b2
		m.odd = !m.odd
	}
}

// linear returns p*a - q*b, which must be neither negative nor above 2^256.
func linear(a, b *scalar, p, q uint64) (z scalar) {
	var ca, cb, borrow, x, y uint64
	for i := range z {
		x, ca = mulAdd(p, a[i], ca, 0)
		y, cb = mulAdd(q, b[i], cb, 0)
		z[i], borrow = bits.Sub64(x, y, borrow)
	}
	return z
}

// combine returns p*u + q*v.
func combine(u, v *scalar, p, q uint64) (z scalar) {
	var cu, cv, carry, x, y uint64
	for i := range z {
		x, cu = mulAdd(p, u[i], cu, 0)
		y, cv = mulAdd(q, v[i], cv, 0)
		z[i], carry = bits.Add64(x, y, carry)
	}
	return z
}

// step is one division with remainder by shifting and subtracting. It is for
// the rare long quotient.
func step(a, b, u, v *scalar) {
	for shift := bitLen(a) - bitLen(b); shift >= 0; shift-- {
		if shifted := shl(b, uint(shift)); !a.less(&shifted) {
			*a = linear(a, &shifted, 1, 1)
			more := shl(v, uint(shift))
			*u = combine(u, &more, 1, 1)
		}
	}
	*a, *b = *b, *a
	*u, *v = *v, *u
}

// stepWord is one division with remainder by a b of one limb.
func stepWord(a, b, u, v *scalar) {
	var r, q uint64
	for i := 3; i >= 0; i-- {
		q, r = bits.Div64(r, a[i], b[0])
		if q == 0 {
			continue
		}
		var carry uint64
		for j := i; j < 4; j++ {
			u[j], carry = mulAdd(q, v[j-i], u[j], carry)
		}
	}
	*a, *b = *b, scalar{r}
	*u, *v = *v, *u
}

func bitLen(x *scalar) int {
	for i := 3; i >= 0; i-- {
		if x[i] != 0 {
			return 64*i + bits.Len64(x[i])
		}
	}
	return 0
}

func shl(x *scalar, n uint) (z scalar) {
	words, n := int(n/64), n%64
	for i := 3; i >= words; i-- {
		z[i] = x[i-words] << n
		if n != 0 && i > words {
			z[i] |= x[i-words-1] >> (64 - n)
		}
	}
	return z
}
