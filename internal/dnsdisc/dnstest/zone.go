package dnstest

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"
)

// Fault is how a name misbehaves. The zero value is no fault.
type Fault struct {
	Delay    time.Duration // before anything else
	Drop     bool          // no answer at all
	Refuse   bool          // a server failure for an answer
	NotFound bool          // NXDOMAIN, whatever there is
	Answer   []string      // instead of what there is, if not nil
	// Times is how often it misbehaves before it is well again; 0: for ever.
	Times int
}

// Zone is what a DNS server knows: TXT records by name, without regard to case
// as DNS has it. It may be used by several goroutines at once.
type Zone struct {
	mu     sync.Mutex
	txt    map[string][]string
	faults map[string]*Fault
	asked  map[string]int
	total  int
}

// NewZone returns a Zone that holds trees.
func NewZone(trees ...Tree) *Zone {
	z := &Zone{txt: make(map[string][]string), faults: make(map[string]*Fault), asked: make(map[string]int)}
	for _, t := range trees {
		z.Publish(t)
	}
	return z
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Publish puts a tree in place of what was at and below its domain.
func (z *Zone) Publish(t Tree) {
	z.mu.Lock()
	defer z.mu.Unlock()
	domain := canonical(t.Domain)
	for name := range z.txt {
		if name == domain || strings.HasSuffix(name, "."+domain) {
			delete(z.txt, name)
		}
	}
	for name, text := range t.TXT {
		z.txt[canonical(name)] = []string{text}
	}
}

// Set says what TXT records a name has; none: the name doesn't exist.
func (z *Zone) Set(name string, txts ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(txts) == 0 {
		delete(z.txt, canonical(name))
		return
	}
	z.txt[canonical(name)] = txts
}

// Fault makes a name misbehave; with the name "" all those that have no fault
// of their own.
func (z *Zone) Fault(name string, f Fault) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.faults[canonical(name)] = &f
}

// Lookups returns how many questions were asked.
func (z *Zone) Lookups() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.total
}

// Asked returns how often a name was asked for.
func (z *Zone) Asked(name string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[canonical(name)]
}

var (
	errDropped = errors.New("dnstest: dropped")
	errRefused = errors.New("dnstest: refused")
)

// look returns what there is to be said about a name, and after what time.
// With neither text nor error the name doesn't exist.
func (z *Zone) look(name string) (txts []string, delay time.Duration, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name = canonical(name)
	z.total++
	z.asked[name]++
	txts = z.txt[name]
	f := z.faults[name]
	if f == nil {
		name = ""
		f = z.faults[name]
	}
	if f == nil {
		return txts, 0, nil
	}
	fault := *f
	if f.Times > 0 {
		if f.Times--; f.Times == 0 {
			delete(z.faults, name)
		}
	}
	switch {
	case fault.Drop:
		err = errDropped
	case fault.Refuse:
		err = errRefused
	case fault.NotFound:
		txts = nil
	case fault.Answer != nil:
		txts = fault.Answer
	}
	return txts, fault.Delay, err
}

// LookupTXT answers as a resolver that asks this zone's server would.
func (z *Zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	txts, delay, err := z.look(name)
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			err = errDropped
		}
	}
	failure := &net.DNSError{Name: name}
	switch {
	case errors.Is(err, errDropped):
		<-ctx.Done()
		failure.Err, failure.IsTimeout = "i/o timeout", true
	case err != nil:
		failure.Err, failure.IsTemporary = "server misbehaving", true
	case len(txts) == 0:
		failure.Err, failure.IsNotFound = "no such host", true
	default:
		return txts, nil
	}
	return nil, failure
}
