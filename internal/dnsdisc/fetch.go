package dnsdisc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// fetch is one run of Client.Fetch. Lookups run in goroutines of their own;
// everything here is touched by the one that called run.
type fetch struct {
	cfg   Config
	main  URL
	last  *List
	trees map[URL]*reading
	order []*reading

	fresh, later []job // never tried; to be tried again
	inFlight     int

	lookups, bytes int
	heard          time.Time // when the last answer came
	limited        *Error    // why something was left out
	stopped        *Error    // why nothing more is asked
}

// patience is for how many timeouts a resolver may be silent.
const patience = 3

// reading is a tree being read.
type reading struct {
	tree
	prev     *tree // as it was the last time
	err      *Error
	begun    map[begun]struct{}
	records  int
	gone     int   // entries that don't exist, though the root leads to them
	reread   bool  // the root, because of those
	firstErr error // why an entry is missing
}

type begun struct {
	id    id
	links bool
}

// job is a name to be asked for: a tree's own, or an entry's.
type job struct {
	t     *reading
	root  bool
	ref   ref
	depth int
	links bool // the entry is below l
	tries int
	due   time.Time
}

func (j job) name() string {
	if j.root {
		return j.t.url.Domain
	}
	return string(j.ref) + "." + j.t.url.Domain
}

type answer struct {
	job
	r     *root
	e     *entry
	err   *Error
	again bool // another try may help
	gone  bool
}

func newFetch(cfg Config, u URL, last *List) *fetch {
	if last != nil && (last.URL != u.String() || last.trees[u] == nil) {
		last = nil
	}
	f := &fetch{cfg: cfg, main: u, last: last, trees: make(map[URL]*reading)}
	f.follow(u)
	return f
}

// follow begins to read a tree.
func (f *fetch) follow(u URL) {
	if f.trees[u] != nil {
		return
	}
	if len(f.trees) > f.cfg.MaxLinks {
		f.limit(f.main, fmt.Errorf("it links to more than %d trees", f.cfg.MaxLinks))
		return
	}
	t := &reading{tree: tree{url: u}}
	if f.last != nil {
		t.prev = f.last.trees[u]
	}
	f.trees[u] = t
	f.order = append(f.order, t)
	f.fresh = append(f.fresh, job{t: t, root: true})
}

// limit notes that something is left out.
func (f *fetch) limit(u URL, cause error) {
	if f.limited == nil {
		f.limited = &Error{Tree: u.Domain, Err: ErrLimit, Cause: cause}
	}
}

func (f *fetch) run(ctx context.Context) {
	f.heard = time.Now()
	answers := make(chan answer, f.cfg.Concurrency)
	for {
		now := time.Now()
		for f.inFlight < f.cfg.Concurrency && ctx.Err() == nil && !f.full() {
			j, ok := f.next(now)
			if !ok {
				break
			}
			f.inFlight++
			f.lookups++
			go func() { answers <- f.cfg.ask(ctx, j) }()
		}
		if f.inFlight == 0 {
			if ctx.Err() != nil || f.full() || len(f.later) == 0 && !f.rereadRoots() {
				f.giveUp(ctx)
				return
			}
			if len(f.fresh) > 0 {
				continue
			}
		}
		f.wait(ctx, answers)
	}
}

// wait waits until there is something to do, and takes in an answer.
func (f *fetch) wait(ctx context.Context, answers <-chan answer) {
	var due <-chan time.Time
	var done <-chan struct{}
	if len(f.later) > 0 && f.inFlight < f.cfg.Concurrency && ctx.Err() == nil && f.stopped == nil {
		timer := time.NewTimer(time.Until(slices.MinFunc(f.later, byDue).due))
		defer timer.Stop()
		due = timer.C
	}
	if f.inFlight == 0 {
		done = ctx.Done() // lookups under way end with it on their own
	}
	select {
	case a := <-answers:
		f.inFlight--
		f.take(a)
	case <-due:
	case <-done:
	}
}

func byDue(a, b job) int { return a.due.Compare(b.due) }

// full reports whether no more is to be asked.
func (f *fetch) full() bool {
	if f.stopped != nil || len(f.fresh)+len(f.later) == 0 {
		return f.stopped != nil
	}
	switch {
	case f.lookups >= f.cfg.MaxLookups:
		f.limit(f.main, fmt.Errorf("%d lookups, and more needed", f.cfg.MaxLookups))
	case f.records() >= f.cfg.MaxRecords:
		f.limit(f.main, fmt.Errorf("%d records, and more", f.cfg.MaxRecords))
	case f.bytes >= f.cfg.MaxBytes:
		f.limit(f.main, fmt.Errorf("%d bytes, and more", f.cfg.MaxBytes))
	default:
		return false
	}
	f.stopped = f.limited
	return true
}

func (f *fetch) records() (n int) {
	for _, t := range f.order {
		n += t.records
	}
	return n
}

// next returns what to ask for now: what wasn't tried yet comes first.
func (f *fetch) next(now time.Time) (job, bool) {
	if len(f.fresh) > 0 {
		j := f.fresh[0]
		f.fresh = f.fresh[1:]
		return j, true
	}
	if len(f.later) > 0 {
		first := slices.MinFunc(f.later, byDue)
		if !first.due.After(now) {
			i := slices.IndexFunc(f.later, func(j job) bool { return j == first })
			f.later = slices.Delete(f.later, i, i+1)
			return first, true
		}
	}
	return job{}, false
}

// ask makes one lookup.
func (cfg Config) ask(ctx context.Context, j job) (a answer) {
	a.job = j
	a.tries++
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	var unfit *Error
	fit := func(txts []string) bool {
		unfit = a.read(txts)
		return unfit == nil
	}
	txts, err := cfg.lookup(ctx, j.name(), fit)
	switch {
	case a.r != nil || a.e != nil:
	case err != nil && !isNotFound(err):
		a.err = &Error{Tree: j.t.url.Domain, Err: ErrNoAnswer, Cause: err}
		a.again = true
	case err != nil || len(txts) == 0:
		a.err = &Error{Tree: j.t.url.Domain, Err: ErrNoTree, Cause: err}
		a.gone, a.again = true, !j.root
	default:
		a.err = unfit
		a.again = !j.root
	}
	return a
}

// lookup asks until an answer is fit, for which a chain has several resolvers.
func (cfg Config) lookup(ctx context.Context, name string, fit func([]string) bool) ([]string, error) {
	if c, ok := cfg.Resolver.(*chain); ok {
		return c.lookup(ctx, name, fit)
	}
	txts, err := lookup(ctx, cfg.Resolver, name, 0)
	if err == nil && len(txts) > 0 {
		fit(txts)
	}
	return txts, err
}

// read finds what was asked for among txts.
func (a *answer) read(txts []string) (err *Error) {
	t := a.t
	if !a.root {
		var ok bool
		if a.e, ok = a.ref.pick(txts); !ok {
			return &Error{Tree: t.url.Domain, Err: ErrNoAnswer, Cause: fmt.Errorf("%s: %w", a.name(), errUnfit)}
		}
		return nil
	}
	if a.r, err = pickRoot(t.url, txts); err != nil {
		return err
	}
	if t.prev != nil && a.r.seq < t.prev.root.seq {
		err = &Error{Tree: t.url.Domain, Err: ErrReplay, Cause: fmt.Errorf("seq %d after %d", a.r.seq, t.prev.root.seq)}
		a.r = nil
		return err
	}
	return nil
}

// take takes in an answer.
func (f *fetch) take(a answer) {
	if a.err != nil {
		f.failed(a)
		return
	}
	f.heard = time.Now()
	if a.root {
		f.takeRoot(a.t, a.r)
		return
	}
	f.adopt(a.t, a.e, a.depth, a.links)
}

func (f *fetch) failed(a answer) {
	switch {
	case !errors.Is(a.err, ErrNoAnswer):
		f.heard = time.Now()
	case time.Since(f.heard) >= patience*f.cfg.Timeout && f.stopped == nil:
		f.stopped = a.err // whatever else there is, it won't be answered either
	}
	if a.again && a.tries < f.cfg.Tries {
		wait := f.cfg.Backoff << min(a.tries-1, 10)
		a.due = time.Now().Add(wait/2 + rand.N(wait+1))
		f.later = append(f.later, a.job)
		return
	}
	if a.root {
		if a.t.root == nil {
			a.t.err = a.err
			f.keepPrevious(a.t)
		}
		return
	}
	if a.gone {
		a.t.gone++
	}
	if a.t.firstErr == nil {
		a.t.firstErr = cmp.Or(a.err.Cause, errNoEntry)
	}
}

// keepPrevious goes on with the tree as it was before.
func (f *fetch) keepPrevious(t *reading) {
	if t.prev == nil || t.root != nil {
		return
	}
	t.root, t.older, t.entries = t.prev.root, t.prev.older, t.prev.entries
	if t.url != f.main {
		f.begin(t)
	}
}

func (f *fetch) takeRoot(t *reading, r *root) {
	if t.root != nil { // read again
		if r.text == t.root.text || r.seq < t.root.seq {
			return
		}
		t.root, t.gone, t.firstErr = r, 0, nil
		f.begin(t)
		return
	}
	t.root = r
	f.begin(t)
}

// begin walks down from a root.
func (f *fetch) begin(t *reading) {
	t.begun, t.records = make(map[begun]struct{}), 0
	t.entries = maps.Clone(t.entries)
	if t.entries == nil {
		t.entries = make(map[id]*entry)
	}
	f.want(t, t.root.records, 0, false)
	f.want(t, t.root.links, 0, true)
}

// want sees to it that an entry is read, if it isn't yet.
func (f *fetch) want(t *reading, r ref, depth int, links bool) {
	key := begun{r.id(), links}
	if _, again := t.begun[key]; again {
		return
	}
	if depth > f.cfg.MaxDepth {
		f.limit(t.url, fmt.Errorf("branches more than %d deep", f.cfg.MaxDepth))
		return
	}
	t.begun[key] = struct{}{}
	e := t.get(r)
	if e == nil {
		e = t.prev.get(r)
	}
	if e != nil {
		f.adopt(t, e, depth, links)
		return
	}
	f.fresh = append(f.fresh, job{t: t, ref: r, depth: depth, links: links})
}

// adopt puts an entry into the tree and goes on below it.
func (f *fetch) adopt(t *reading, e *entry, depth int, links bool) {
	key := id(e.sum[:minHash])
	_, known := t.entries[key]
	if !known {
		t.entries[key] = e
		f.bytes += len(e.text)
	}
	switch {
	case e.branch:
		for _, i := range rand.Perm(len(e.children)) { // a different part of what is too large
			f.want(t, e.children[i], depth+1, links)
		}
	case e.record != nil && !links:
		t.records++
		if f.cfg.Found != nil && !known && !t.prev.has(key) {
			f.cfg.Found(t.url.String(), e.record)
		}
	case e.link != nil && links:
		f.follow(*e.link)
	}
}

// rereadRoots looks, once, whether the trees changed while they were read.
func (f *fetch) rereadRoots() (any bool) {
	for _, t := range f.order {
		if t.gone > 0 && !t.reread {
			t.reread, any = true, true
			f.fresh = append(f.fresh, job{t: t, root: true})
		}
	}
	return any
}

// giveUp accounts for what wasn't asked any more.
func (f *fetch) giveUp(ctx context.Context) {
	for i := 0; i < len(f.order); i++ { // the previous trees lead to more
		t := f.order[i]
		if t.root != nil || t.err != nil {
			continue
		}
		t.err = f.stopped
		if t.err == nil {
			t.err = &Error{Tree: t.url.Domain, Err: ErrNoAnswer, Cause: context.Cause(ctx)}
		}
		f.keepPrevious(t)
	}
	if f.stopped == nil && ctx.Err() != nil {
		f.stopped = &Error{Tree: f.main.Domain, Err: ErrIncomplete, Cause: context.Cause(ctx)}
	}
}

// list returns what Fetch does.
func (f *fetch) list() (*List, error) {
	main := f.trees[f.main]
	if main.err != nil {
		return f.last, main.err
	}
	trees := make(map[URL]*tree)
	for _, t := range f.order {
		if t.root == nil {
			continue
		}
		t.mergePrevious()
		trees[t.url] = &t.tree
	}
	l := newList(f.main, trees, f.cfg.MaxRecords, f.cfg.Now())
	if l.Failed == 0 && f.stopped == nil && f.limited == nil && !slices.ContainsFunc(f.order, func(t *reading) bool { return t.err != nil }) {
		return l, nil
	}
	return l, f.err(l.Failed)
}

// mergePrevious adds what is known from before, in case something is missing.
func (t *reading) mergePrevious() {
	if t.prev != nil && t.prev.root != t.root {
		t.older = t.prev.root
		if t.prev.root.text == t.root.text || t.prev.older != nil {
			t.older = t.prev.older
		}
		for k, e := range t.prev.entries {
			if t.entries[k] == nil {
				t.entries[k] = e
			}
		}
	}
	t.prune()
}

// err says what is missing.
func (f *fetch) err(failed int) error {
	if f.limited != nil {
		return f.limited
	}
	for _, t := range f.order {
		if t.err != nil {
			return t.err
		}
	}
	for _, t := range f.order {
		if t.firstErr != nil {
			return &Error{Tree: t.url.Domain, Err: ErrIncomplete, Cause: fmt.Errorf("%d, the first: %w", failed, t.firstErr)}
		}
	}
	if f.stopped != nil {
		return &Error{Tree: f.stopped.Tree, Err: ErrIncomplete, Cause: cmp.Or(f.stopped.Cause, f.stopped.Err)}
	}
	return &Error{Tree: f.main.Domain, Err: ErrIncomplete}
}
