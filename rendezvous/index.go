package rendezvous

import (
	"math/rand/v2"
	"slices"
	"sort"
)

// The indexes that a registration is in: its namespace's, and that of all.
const (
	inNamespace = iota
	inAll
	indexes
)

// index finds registrations by their number, and samples them.
type index struct {
	which int
	name  string
	live  int
	order []slot // by number
	// crowds are the registrations by their address, in no order.
	crowds []*crowd
	byAddr map[string]*crowd
}

// slot is a registration's place in the order. It stays when the registration goes,
// until there are many such.
type slot struct {
	number uint64
	reg    *registration // nil: gone
}

// crowd are the registrations of one address.
type crowd struct {
	addr    string
	at      int // in crowds
	members []*registration
}

func newIndex(which int, name string) *index {
	return &index{which: which, name: name, byAddr: make(map[string]*crowd)}
}

// add puts r behind all others: its number is the highest.
func (x *index) add(r *registration) {
	x.order = append(x.order, slot{r.number, r})
	x.live++
	c := x.byAddr[r.addr]
	if c == nil {
		c = &crowd{addr: r.addr, at: len(x.crowds)}
		x.byAddr[r.addr] = c
		x.crowds = append(x.crowds, c)
	}
	r.at[x.which] = len(c.members)
	c.members = append(c.members, r)
}

func (x *index) remove(r *registration) {
	x.order[x.after(r.number-1)].reg = nil
	if x.live--; len(x.order) > 32 && len(x.order) > 2*x.live {
		x.order = slices.Clip(slices.DeleteFunc(x.order, func(s slot) bool { return s.reg == nil }))
	}
	c := x.byAddr[r.addr]
	at, last := r.at[x.which], len(c.members)-1
	c.members[at] = c.members[last]
	c.members[at].at[x.which] = at
	c.members[last] = nil
	if c.members = c.members[:last]; last > 0 {
		return
	}
	delete(x.byAddr, c.addr)
	end := len(x.crowds) - 1
	x.crowds[c.at] = x.crowds[end]
	x.crowds[c.at].at = c.at
	x.crowds[end] = nil
	x.crowds = x.crowds[:end]
}

// after is the place of the first slot with a number above that.
func (x *index) after(number uint64) int {
	return sort.Search(len(x.order), func(i int) bool { return x.order[i].number > number })
}

// walk returns the n oldest registrations with a number above that, and whether
// there are others.
func (x *index) walk(number uint64, n int) (out []*registration, more bool) {
	for _, s := range x.order[x.after(number):] {
		switch {
		case s.reg == nil:
		case len(out) >= n:
			return out, true
		default:
			out = append(out, s.reg)
		}
	}
	return out, false
}

// sample returns n registrations at random, or all. Addresses come in turns: no
// address has two more than another that has them.
func (x *index) sample(n int) []*registration {
	out := make([]*registration, 0, min(n, x.live))
	if len(x.crowds) >= n { // one of each, of n of them
		for _, i := range distinct(len(x.crowds), n) {
			m := x.crowds[i].members
			out = append(out, m[rand.IntN(len(m))])
		}
		return out
	}
	left := make([][]*registration, 0, len(x.crowds))
	for _, c := range x.crowds {
		left = append(left, slices.Clone(c.members))
	}
	for len(left) > 0 && len(out) < n {
		rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		for i, m := range left[:min(len(left), n-len(out))] {
			j, last := rand.IntN(len(m)), len(m)-1
			out = append(out, m[j])
			m[j] = m[last]
			left[i] = m[:last]
		}
		left = slices.DeleteFunc(left, func(m []*registration) bool { return len(m) == 0 })
	}
	return out
}

// distinct returns k of the numbers below n at random, in random order (Floyd).
func distinct(n, k int) []int {
	seen := make(map[int]struct{}, k)
	out := make([]int, 0, k)
	for j := n - k; j < n; j++ {
		i := rand.IntN(j + 1)
		if _, taken := seen[i]; taken {
			i = j
		}
		seen[i] = struct{}{}
		out = append(out, i)
	}
	rand.Shuffle(k, func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
