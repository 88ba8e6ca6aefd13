package dnsdisc

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/enr"
)

// List is what a tree and those it links to say. It doesn't change.
type List struct {
	URL  string // in its usual form
	Seq  uint64 // of the tree at URL; grows with each change of that tree
	Root string // its root entry
	// Read is when the root was read.
	Read time.Time
	// Records are all good records, one per node, the newest.
	Records []*enr.Record
	// Failed counts entries that couldn't be read, branches with all that is
	// below them as one, and linked trees.
	Failed int
	// Refused counts by reason what was read and is of no use.
	Refused map[string]int

	trees map[URL]*tree
}

// tree is one tree as far as it was read.
type tree struct {
	url  URL
	root *root
	// older is the root before, kept while entries of root are missing.
	older   *root
	entries map[id]*entry // of both
}

func (t *tree) get(r ref) *entry {
	if t == nil {
		return nil
	}
	if e := t.entries[r.id()]; r.names(e) {
		return e
	}
	if r.names(empty) {
		return empty
	}
	return nil
}

func (t *tree) has(k id) bool { return t != nil && t.entries[k] != nil }

// walk calls visit for every entry below a hash, each once, in the order of the
// tree, and returns how many are missing.
func (t *tree) walk(top ref, visit func(e *entry)) (missing int) {
	seen := make(map[id]struct{})
	for stack := []ref{top}; len(stack) > 0; {
		r := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if _, again := seen[r.id()]; again {
			continue
		}
		seen[r.id()] = struct{}{}
		e := t.get(r)
		if e == nil {
			missing++
			continue
		}
		visit(e)
		for i := len(e.children) - 1; i >= 0; i-- {
			stack = append(stack, e.children[i])
		}
	}
	return missing
}

// prune drops what neither root leads to, and the older one if it isn't needed.
func (t *tree) prune() {
	keep := make(map[id]*entry)
	visit := func(e *entry) {
		if e != empty {
			keep[id(e.sum[:minHash])] = e
		}
	}
	if t.walk(t.root.records, visit)+t.walk(t.root.links, visit) == 0 {
		t.older = nil
	}
	if t.older != nil {
		t.walk(t.older.records, visit)
		t.walk(t.older.links, visit)
	}
	t.entries = keep
}

// newList makes the list of the tree at u and all that it leads to.
func newList(u URL, trees map[URL]*tree, maxRecords int, read time.Time) *List {
	main := trees[u]
	l := &List{
		URL: u.String(), Seq: main.root.seq, Root: main.root.text, Read: read,
		Refused: make(map[string]int), trees: make(map[URL]*tree),
	}
	at := make(map[peer.ID]int) // in Records
	record := func(r *enr.Record) (superseded bool) {
		i, known := at[r.PeerID()]
		switch {
		case !known && len(l.Records) < maxRecords:
			at[r.PeerID()] = len(l.Records)
			l.Records = append(l.Records, r)
		case known && r.Seq() > l.Records[i].Seq():
			l.Records[i] = r
			return true
		case known:
			return true
		}
		return false
	}
	refuse := func(reason string, n int) {
		if n > 0 {
			l.Refused[reason] += n
		}
	}
	var older []*tree
	queue := []URL{u}
	seen := make(map[URL]struct{})
	for ; len(queue) > 0; queue = queue[1:] {
		u := queue[0]
		if _, again := seen[u]; again {
			continue
		}
		seen[u] = struct{}{}
		t := trees[u]
		if t == nil || t.root == nil {
			l.Failed++
			continue
		}
		l.trees[u] = t
		l.Failed += t.walk(t.root.records, func(e *entry) {
			refuse(e.refused, e.bad)
			switch {
			case e.link != nil:
				refuse(RefusedPlace, 1)
			case e.record != nil && record(e.record):
				refuse(RefusedOld, 1)
			}
		})
		l.Failed += t.walk(t.root.links, func(e *entry) {
			refuse(e.refused, e.bad)
			switch {
			case e.record != nil:
				refuse(RefusedPlace, 1)
			case e.link != nil:
				queue = append(queue, *e.link)
			}
		})
		if t.older != nil {
			older = append(older, t)
		}
	}
	// What newer roots say comes first.
	for _, t := range older {
		t.walk(t.older.records, func(e *entry) {
			if e.record != nil {
				record(e.record)
			}
		})
	}
	return l
}
