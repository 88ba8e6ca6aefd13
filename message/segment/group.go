package segment

import (
	"bytes"
	"container/list"
	"time"
)

// group is what is here of one payload.
type group struct {
	key   key
	cost  int
	grown time.Time
	// inAll and inSender are its places on the shelf.
	inAll, inSender *list.Element

	// n and p are the counts, size is the length of all blocks but the last slice; 0:
	// not known yet.
	n, p, size int
	data       map[int][]byte
	parity     map[int][]byte
	// waits is set when only the last slice can help.
	waits bool
}

func newGroup(k key) *group {
	return &group{key: k, data: map[int][]byte{}, parity: map[int][]byte{}}
}

// add takes a segment, unless it is here.
func (g *group) add(s *Segment) (fresh bool, err error) {
	if s.Parity {
		return g.addTo(g.parity, &g.p, s, false)
	}
	return g.addTo(g.data, &g.n, s, s.Index == s.Count-1)
}

func (g *group) addTo(blocks map[int][]byte, count *int, s *Segment, last bool) (fresh bool, err error) {
	if have, ok := blocks[s.Index]; ok && *count == s.Count && bytes.Equal(have, s.Payload) {
		return false, nil
	} else if ok {
		return false, ErrContradiction
	}
	size := g.size
	switch tail, known := g.data[g.n-1]; {
	case *count != 0 && *count != s.Count:
		return false, ErrContradiction
	case last && size != 0 && len(s.Payload) > size:
		return false, ErrContradiction
	case last:
	case size != 0 && len(s.Payload) != size:
		return false, ErrContradiction
	case known && len(tail) > len(s.Payload):
		return false, ErrContradiction
	default:
		size = len(s.Payload)
	}
	g.size, *count = size, s.Count
	blocks[s.Index] = bytes.Clone(s.Payload)
	return true, nil
}

// whole returns the payload if enough is here; nil without an error if not.
func (g *group) whole() ([]byte, error) {
	here := len(g.data)
	if g.n+g.p <= maxBlocks {
		here += len(g.parity)
	}
	if len(g.data) == 0 || here < g.n {
		return nil, nil
	}
	data := listed(g.data, g.n)
	if len(g.data) == g.n {
		return join(data, g.key.whole)
	}
	if g.waits && data[g.n-1] == nil {
		return nil, nil
	}
	payload, err := rebuild(data, listed(g.parity, g.p), g.size, g.key.whole)
	g.waits = err == errPadding
	return payload, err
}

// listed puts blocks in order, nil where one is missing.
func listed(blocks map[int][]byte, count int) [][]byte {
	list := make([][]byte, count)
	for i, b := range blocks {
		list[i] = b
	}
	return list
}
