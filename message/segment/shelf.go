package segment

import (
	"container/list"
	"time"
)

// What it takes to keep a payload's place, and a segment's, beside its bytes.
const (
	groupCost   = 1024
	segmentCost = 128
)

// key names a payload of a sender.
type key struct {
	from  string
	whole Hash
}

// shelf holds payloads that aren't whole yet, by the order in which they grew last.
type shelf struct {
	groups  map[key]*group
	senders map[string]*sender
	order   *list.List // of *group
	bytes   int
}

type sender struct {
	order *list.List // of *group
	bytes int
}

func newShelf() shelf {
	return shelf{groups: map[key]*group{}, senders: map[string]*sender{}, order: list.New()}
}

// group returns the place of a payload, a new one if there is none.
func (h *shelf) group(k key) *group {
	if g := h.groups[k]; g != nil {
		return g
	}
	s := h.senders[k.from]
	if s == nil {
		s = &sender{order: list.New()}
		h.senders[k.from] = s
	}
	g := newGroup(k)
	g.inAll, g.inSender = h.order.PushBack(g), s.order.PushBack(g)
	h.groups[k] = g
	h.count(g, groupCost)
	return g
}

func (h *shelf) count(g *group, bytes int) {
	g.cost += bytes
	h.bytes += bytes
	h.senders[g.key.from].bytes += bytes
}

// grew notes that a segment was added.
func (h *shelf) grew(g *group, bytes int, now time.Time) {
	h.count(g, bytes)
	g.grown = now
	h.order.MoveToBack(g.inAll)
	h.senders[g.key.from].order.MoveToBack(g.inSender)
}

func (h *shelf) drop(g *group) {
	h.count(g, -g.cost)
	s := h.senders[g.key.from]
	h.order.Remove(g.inAll)
	s.order.Remove(g.inSender)
	delete(h.groups, g.key)
	if s.order.Len() == 0 {
		delete(h.senders, g.key.from)
	}
}

// oldest returns what grew the longest time ago; nil: there is nothing.
func (h *shelf) oldest() *group { return front(h.order) }

func (s *sender) oldest() *group { return front(s.order) }

func front(l *list.List) *group {
	if e := l.Front(); e != nil {
		return e.Value.(*group)
	}
	return nil
}

// memory remembers the last payloads that were given out, so many of them.
type memory struct {
	known map[key]bool
	order []key
	next  int // where the oldest is, once order is full
	size  int
}

func newMemory(size int) memory { return memory{known: map[key]bool{}, size: size} }

func (m *memory) has(k key) bool { return m.known[k] }

func (m *memory) add(k key) {
	m.known[k] = true
	if len(m.order) < m.size {
		m.order = append(m.order, k)
		return
	}
	delete(m.known, m.order[m.next])
	m.order[m.next] = k
	m.next = (m.next + 1) % m.size
}
