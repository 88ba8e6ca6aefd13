package rendezvous

import (
	"bytes"
	"container/heap"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// registration is what a point keeps.
type registration struct {
	peer    peer.ID
	ns      string
	addr    string // who counts as one
	record  []byte
	expires time.Time
	number  uint64       // by its last change of the record
	at      [indexes]int // in its crowds
	due     int          // in the heap
}

// meanRecord is what the records of a full table may take in the mean, in bytes: three
// times what those of members behind NAT do.
const meanRecord = 2 << 10

// limits bound a table.
type limits struct{ total, perPeer, perAddr int }

// table holds registrations. It isn't safe for concurrent use. Everything in it
// belongs to some registration, so that their number bounds all of it.
//
// A full table makes room for whoever comes from an address that has less than its
// share, by removing the youngest of the address that has most: nobody who was there
// before a flood goes for it, unless all have the same share.
type table struct {
	limits
	last   uint64 // number given
	bytes  int    // of all records
	gone   uint64 // displaced
	all    *index
	spaces map[string]*index
	peers  map[peer.ID][]*registration
	addrs  map[string]*address
	levels [][]*address // by how many registrations they have
	heap   byExpiry
}

// address is an address with registrations, in the order of their coming.
type address struct {
	key  string
	at   int // in its level
	regs []*registration
}

func newTable(l limits) *table {
	return &table{
		limits: l,
		all:    newIndex(inAll, ""),
		spaces: make(map[string]*index),
		peers:  make(map[peer.ID][]*registration),
		addrs:  make(map[string]*address),
	}
}

// outcome is what became of a registration.
type outcome int

const (
	added outcome = iota
	renewed
	changed // renewed, with another record
	tooManyOfPeer
	tooManyOfAddress
	full
)

// holds reports whether the record is one that p has registered before.
func (t *table) holds(p peer.ID, record []byte) bool {
	return slices.ContainsFunc(t.peers[p], func(r *registration) bool { return bytes.Equal(r.record, record) })
}

// put registers a peer. The record isn't copied.
func (t *table) put(p peer.ID, ns, addr string, record []byte, expires time.Time) outcome {
	of := t.peers[p]
	for _, r := range of { // one copy of one record
		if bytes.Equal(r.record, record) {
			record = r.record
			break
		}
	}
	for _, r := range of {
		if r.ns == ns {
			return t.renew(r, addr, record, expires)
		}
	}
	switch {
	case len(of) >= t.perPeer:
		return tooManyOfPeer
	case t.countAddr(addr) >= t.perAddr:
		return tooManyOfAddress
	}
	for t.all.live >= t.total || !t.fits(len(record)) {
		if !t.displace(t.countAddr(addr)) {
			return full
		}
	}
	if x := t.spaces[ns]; x != nil {
		ns = x.name
	}
	r := &registration{peer: p, ns: ns, addr: addr, record: record, expires: expires}
	t.peers[p] = append(t.peers[p], r)
	t.enter(r)
	heap.Push(&t.heap, r)
	return added
}

// fits reports whether there is room for so many bytes more.
func (t *table) fits(more int) bool { return t.bytes+more <= t.total*meanRecord }

func (t *table) renew(r *registration, addr string, record []byte, expires time.Time) outcome {
	same := bytes.Equal(r.record, record)
	if more := len(record) - len(r.record); more > 0 && !t.fits(more) {
		return full
	}
	r.expires = expires
	heap.Fix(&t.heap, r.due)
	if moved := r.addr != addr && t.countAddr(addr) < t.perAddr; moved || !same {
		t.leave(r)
		if moved {
			r.addr = addr
		}
		r.record = record
		t.enter(r)
	}
	if same {
		return renewed
	}
	return changed
}

// remove takes a peer's registration back.
func (t *table) remove(p peer.ID, ns string) bool {
	for _, r := range t.peers[p] {
		if r.ns == ns {
			t.drop(r)
			return true
		}
	}
	return false
}

// expire removes what is past its time.
func (t *table) expire(now time.Time) (n int) {
	for len(t.heap) > 0 && !now.Before(t.heap[0].expires) {
		t.drop(t.heap[0])
		n++
	}
	return n
}

func (t *table) drop(r *registration) {
	t.leave(r)
	heap.Remove(&t.heap, r.due)
	of := t.peers[r.peer]
	if of = slices.DeleteFunc(of, func(o *registration) bool { return o == r }); len(of) == 0 {
		delete(t.peers, r.peer)
	} else {
		t.peers[r.peer] = of
	}
}

// enter gives r a number and puts it where it is found.
func (t *table) enter(r *registration) {
	t.last++
	r.number = t.last
	t.bytes += len(r.record)
	x := t.spaces[r.ns]
	if x == nil {
		x = newIndex(inNamespace, r.ns)
		t.spaces[r.ns] = x
	}
	x.add(r)
	t.all.add(r)
	a := t.addrs[r.addr]
	if a == nil {
		a = &address{key: r.addr}
		t.addrs[r.addr] = a
	} else {
		t.unlevel(a)
	}
	a.regs = append(a.regs, r)
	t.level(a)
}

func (t *table) leave(r *registration) {
	t.bytes -= len(r.record)
	x := t.spaces[r.ns]
	if x.remove(r); x.live == 0 {
		delete(t.spaces, r.ns)
	}
	t.all.remove(r)
	a := t.addrs[r.addr]
	t.unlevel(a)
	if a.regs = slices.DeleteFunc(a.regs, func(o *registration) bool { return o == r }); len(a.regs) == 0 {
		delete(t.addrs, a.key)
		return
	}
	t.level(a)
}

func (t *table) countAddr(addr string) int {
	if a := t.addrs[addr]; a != nil {
		return len(a.regs)
	}
	return 0
}

func (t *table) level(a *address) {
	n := len(a.regs)
	for len(t.levels) <= n {
		t.levels = append(t.levels, nil)
	}
	a.at = len(t.levels[n])
	t.levels[n] = append(t.levels[n], a)
}

func (t *table) unlevel(a *address) {
	n := len(a.regs)
	l := t.levels[n]
	last := len(l) - 1
	l[a.at] = l[last]
	l[a.at].at = a.at
	l[last] = nil
	t.levels[n] = l[:last]
	for top := len(t.levels) - 1; top >= 0 && len(t.levels[top]) == 0; top-- {
		t.levels = t.levels[:top]
	}
}

// displace makes room for an address that has so many, if another has more than
// that would be with one more.
func (t *table) displace(has int) bool {
	top := len(t.levels) - 1
	if top <= has+1 {
		return false
	}
	l := t.levels[top]
	a := l[len(l)-1]
	t.drop(a.regs[len(a.regs)-1])
	t.gone++
	return true
}

// recordBytes is how much the records take: a peer's equal ones are one.
func (t *table) recordBytes() (n int) {
	for _, of := range t.peers {
		for i, r := range of {
			if !slices.ContainsFunc(of[:i], func(o *registration) bool { return &o.record[0] == &r.record[0] }) {
				n += len(r.record)
			}
		}
	}
	return n
}

// byExpiry is a heap.
type byExpiry []*registration

func (h byExpiry) Len() int           { return len(h) }
func (h byExpiry) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h byExpiry) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].due, h[j].due = i, j
}

// Push implements heap.Interface.
func (h *byExpiry) Push(v any) {
	r := v.(*registration)
	r.due = len(*h)
	*h = append(*h, r)
}

// Pop implements heap.Interface.
func (h *byExpiry) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return r
}
