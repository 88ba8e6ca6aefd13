package dnsdisc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxCacheSize is the length in bytes of the longest List in binary form.
const MaxCacheSize = 12 << 20

const (
	cacheHeader = "enrtrees 1" // the format's version
	cacheOlder  = "older "
)

// MarshalBinary returns the list in a form that UnmarshalBinary reads, with
// all that is needed to verify it again.
//
// The form is text: a line with version and time, then for every tree its URL,
// its root, the root before if it is still needed, its entries, and an empty
// line.
func (l *List) MarshalBinary() ([]byte, error) {
	u, err := parseURL(l.URL)
	if err != nil || l.trees[u] == nil {
		return nil, errors.New("dnsdisc: not a list that was read")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d\n", cacheHeader, l.Read.Unix())
	urls := slices.SortedFunc(maps.Keys(l.trees), func(a, b URL) int {
		switch {
		case a == b:
			return 0
		case a == u:
			return -1
		case b == u:
			return 1
		}
		return strings.Compare(a.String(), b.String())
	})
	for _, u := range urls {
		l.trees[u].marshal(&b)
	}
	if b.Len() > MaxCacheSize {
		return nil, fmt.Errorf("dnsdisc: more than %d bytes", MaxCacheSize)
	}
	return []byte(b.String()), nil
}

func (t *tree) marshal(b *strings.Builder) {
	fmt.Fprintf(b, "%s\n%s\n", t.url, t.root.text)
	written := make(map[*entry]struct{})
	write := func(e *entry) {
		if _, again := written[e]; !again && e != empty {
			written[e] = struct{}{}
			if strings.ContainsAny(e.text, "\r\n") {
				return // of no use, and no part of a line
			}
			b.WriteString(e.text)
			b.WriteByte('\n')
		}
	}
	roots := []*root{t.root}
	if t.older != nil {
		roots = append(roots, t.older)
		fmt.Fprintf(b, "%s%s\n", cacheOlder, t.older.text)
	}
	for _, r := range roots {
		t.walk(r.records, write)
		t.walk(r.links, write)
	}
	b.WriteByte('\n')
}

// UnmarshalBinary reads a list written by MarshalBinary and verifies it as if
// it came from DNS: no entry is believed that no signed root leads to. The
// error is ErrCache.
func (l *List) UnmarshalBinary(data []byte) error {
	got, err := unmarshal(string(data))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCache, err)
	}
	*l = *got
	return nil
}

func unmarshal(data string) (*List, error) {
	if len(data) > MaxCacheSize {
		return nil, errors.New("too long")
	}
	header, rest, _ := strings.Cut(data, "\n")
	seconds, ok := strings.CutPrefix(header, cacheHeader+" ")
	read, err := strconv.ParseInt(seconds, 10, 64)
	if !ok || err != nil {
		return nil, errors.New("unknown version")
	}
	var main URL
	trees := make(map[URL]*tree)
	for rest != "" {
		text, after, ok := strings.Cut(rest, "\n\n")
		if !ok {
			return nil, errors.New("cut short")
		}
		rest = after
		t, err := unmarshalTree(text)
		if err != nil {
			return nil, err
		}
		if len(trees) == 0 {
			main = t.url
		}
		trees[t.url] = t
	}
	if len(trees) == 0 {
		return nil, errors.New("empty")
	}
	return newList(main, trees, MaxCacheSize, time.Unix(read, 0)), nil
}

func unmarshalTree(text string) (*tree, error) {
	first, rest, _ := strings.Cut(text, "\n")
	u, err := parseURL(first)
	if err != nil {
		return nil, err
	}
	t := &tree{url: u, entries: make(map[id]*entry)}
	first, rest, _ = strings.Cut(rest, "\n")
	if t.root, err = unmarshalRoot(u, first); err != nil {
		return nil, err
	}
	if after, ok := strings.CutPrefix(rest, cacheOlder); ok {
		first, rest, _ = strings.Cut(after, "\n")
		if t.older, err = unmarshalRoot(u, first); err != nil {
			return nil, err
		}
	}
	t.fill(byID(rest))
	t.prune()
	return t, nil
}

// minCached is the length of the shortest entry that is worth keeping; no
// record, link or branch with children is shorter.
const minCached = 32

// byID finds entries among lines.
func byID(lines string) map[id]string {
	texts := make(map[id]string, min(strings.Count(lines, "\n")+1, len(lines)/minCached))
	for text := range strings.SplitSeq(lines, "\n") {
		if len(text) >= minCached && len(text) <= maxText {
			sum := keccak256(text)
			texts[id(sum[:minHash])] = text
		}
	}
	return texts
}

// fill takes from texts what the roots lead to; the rest isn't even parsed.
func (t *tree) fill(texts map[id]string) {
	stack := []ref{t.root.records, t.root.links}
	if t.older != nil {
		stack = append(stack, t.older.records, t.older.links)
	}
	for len(stack) > 0 {
		r := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		text, ok := texts[r.id()]
		if !ok || t.entries[r.id()] != nil {
			continue
		}
		e := parseEntry(text, keccak256(text))
		t.entries[r.id()] = e
		stack = append(stack, e.children...)
	}
}

func unmarshalRoot(u URL, text string) (*root, error) {
	r, err := parseRoot(text)
	if err != nil {
		return nil, err
	}
	if !r.verify(u) {
		return nil, errors.New("a root with a wrong signature")
	}
	return r, nil
}
