package peers

import "math/rand/v2"

// Each list that an entry is in has a slot for its place there, which makes adding
// and removing cheap and the order the same in every run.
const (
	slotAll = iota
	slotSource
	slotConns
	slotDials
	lists
)

type list struct {
	slot  int
	items []*entry
}

func (l *list) has(e *entry) bool { return e.pos[l.slot] > 0 }

func (l *list) add(e *entry) {
	if !l.has(e) {
		l.items = append(l.items, e)
		e.pos[l.slot] = len(l.items)
	}
}

func (l *list) remove(e *entry) {
	i := e.pos[l.slot] - 1
	if i < 0 {
		return
	}
	last := len(l.items) - 1
	l.items[i] = l.items[last]
	l.items[i].pos[l.slot] = i + 1
	l.items[last] = nil
	l.items = l.items[:last]
	e.pos[l.slot] = 0
}

// some returns n of the entries at random, one perhaps twice, all if there are no
// more than n.
func (l *list) some(r *rand.Rand, n int) []*entry {
	if len(l.items) <= n {
		return l.items
	}
	out := make([]*entry, n)
	for i := range out {
		out[i] = l.items[r.IntN(len(l.items))]
	}
	return out
}

func (e *entry) connected() bool { return e.pos[slotConns] > 0 }
func (e *entry) dialling() bool  { return e.pos[slotDials] > 0 }
