package dosguard

// affine is a point of the curve y² = x³ + 7, never the point at infinity.
type affine struct{ x, y element }

// point is a point in the coordinates (X, Y, ZZ, ZZZ) with x = X/ZZ,
// y = Y/ZZZ and ZZ³ = ZZZ². They make the mixed addition one squaring cheaper
// than Jacobian ones, and x comparable without a further squaring.
//
// ZZ = 0 means "no point": the sum was the point at infinity, or an addition
// met its exceptional case, two points with the same x. Both addition and
// doubling multiply the old ZZ into the new one and a point of this curve
// never has y = 0, so ZZ is zero at the end of a computation if and only if
// that happened at some step. Nothing has to be tested on the way.
type point struct{ x, y, zz, zzz element }

// addAffines sets p = a + b. (mmadd-2008-s)
func (p *point) addAffines(a, b *affine) {
	var h, r, q, t element
	h.sub(&b.x, &a.x)
	r.sub(&b.y, &a.y)
	p.zz.sqr(&h)
	p.zzz.mul(&h, &p.zz)
	q.mul(&a.x, &p.zz)
	p.x.sqr(&r)
	p.x.sub(&p.x, &p.zzz)
	p.x.sub(&p.x, &q)
	p.x.sub(&p.x, &q)
	t.mul(&a.y, &p.zzz)
	q.sub(&q, &p.x)
	p.y.mul(&r, &q)
	p.y.sub(&p.y, &t)
}

// addAffine sets p = p + a. (madd-2008-s)
func (p *point) addAffine(a *affine) {
	var h, r, hh, hhh, q element
	h.mul(&a.x, &p.zz)
	r.mul(&a.y, &p.zzz)
	h.sub(&h, &p.x)
	r.sub(&r, &p.y)
	hh.sqr(&h)
	hhh.mul(&h, &hh)
	q.mul(&p.x, &hh)
	p.zz.mul(&p.zz, &hh)
	p.zzz.mul(&p.zzz, &hhh)
	p.x.sqr(&r)
	p.x.sub(&p.x, &hhh)
	p.x.sub(&p.x, &q)
	p.x.sub(&p.x, &q)
	q.sub(&q, &p.x)
	hhh.mul(&hhh, &p.y)
	p.y.mul(&r, &q)
	p.y.sub(&p.y, &hhh)
}

// double sets p = 2p. (dbl-2008-s-1)
func (p *point) double() {
	var u, v, w, s, m element
	u.add(&p.y, &p.y)
	v.sqr(&u)
	w.mul(&u, &v)
	s.mul(&p.x, &v)
	m.sqr(&p.x)
	u.add(&m, &m)
	m.add(&m, &u)
	p.x.sqr(&m)
	p.x.sub(&p.x, &s)
	p.x.sub(&p.x, &s)
	p.zz.mul(&p.zz, &v)
	p.zzz.mul(&p.zzz, &w)
	w.mul(&w, &p.y)
	s.sub(&s, &p.x)
	p.y.mul(&m, &s)
	p.y.sub(&p.y, &w)
}

// normalise writes the points into out as affine ones, at the price of a
// single inversion (Montgomery's trick on ZZZ). None may be "no point".
func normalise(points []point, out []affine) {
	products := make([]element, len(points))
	acc := element{1}
	for i := range points {
		products[i] = acc
		acc.mul(&acc, &points[i].zzz)
	}
	acc.invert(&acc)
	for i := len(points) - 1; i >= 0; i-- {
		p := &points[i]
		var inv, z element
		inv.mul(&acc, &products[i]) // 1/ZZZ
		acc.mul(&acc, &p.zzz)
		out[i].y.mul(&p.y, &inv)
		z.mul(&p.zz, &inv) // 1/Z
		z.sqr(&z)
		out[i].x.mul(&p.x, &z)
	}
}
