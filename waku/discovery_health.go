package waku

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/status-im/shoal/internal/peers"
	"github.com/status-im/shoal/sharding"
)

// DiscoveryHealth is how looking for peers is going.
type DiscoveryHealth struct {
	// Sources are where peers are looked for, by name.
	Sources []SourceHealth
	// Known counts the nodes known, connected or not, and Failing those of them that
	// couldn't be reached when last tried.
	Known, Failing int
	// Foreign counts those that turned out to be of another network lately.
	Foreign int
	// Refused counts what was heard of nodes and not taken, by reason: records of
	// other clusters, without a good signature, of too many at one address, ….
	Refused map[string]uint64
	// Missing says in a sentence for each shard what it lacks; nil: nothing.
	Missing []MissingPeers

	// looks is true if there is anybody to ask for peers.
	looks bool
}

// SourceHealth is how one source of peers is doing.
type SourceHealth struct {
	// Name is "DNS list <domain>", "discv5", "peer exchange" or "rendezvous".
	Name string
	// Records is how many nodes it has named.
	Records int
	// Failure is why it failed when it was asked last; empty: it didn't.
	Failure string
	// At is when it was asked last.
	At time.Time
}

// MissingPeers is what a shard lacks.
type MissingPeers struct {
	Shard sharding.Shard
	// Service is "relay", "filter", "lightpush", "store" or "exchange".
	Service string
	// Have peers are connected, of Target; Known are being tried, or left to try.
	Have, Target, Known int
}

func (d *discovery) health() DiscoveryHealth {
	stats := d.book.Stats(time.Now())
	d.mu.Lock()
	defer d.mu.Unlock()
	h := DiscoveryHealth{Known: stats.Known, Failing: stats.Failing, Foreign: stats.Foreign, Refused: stats.Refused, looks: d.looks()}
	count := func(reason string, n int) {
		if n > 0 {
			h.Refused[reason] += uint64(n)
		}
	}
	for reason, n := range d.refused {
		count(reason, int(n))
	}
	if d.service != nil {
		d.addRefused(d.service, count)
	}
	for _, s := range d.sources {
		h.Sources = append(h.Sources, *s)
	}
	slices.SortFunc(h.Sources, func(a, b SourceHealth) int { return cmp.Compare(a.Name, b.Name) })
	for _, m := range d.missing {
		if m.Service != peers.PeerExchange {
			h.Missing = append(h.Missing, MissingPeers{
				Shard: m.Shard, Service: m.Service.String(), Have: m.Have, Target: m.Target, Known: m.Known + m.Trying,
			})
		}
	}
	return h
}

// looks tells whether the node has been told where to look for peers.
func (d *discovery) looks() bool {
	c := d.node.cfg
	asked := false
	for _, s := range d.sources {
		asked = asked || s.Name != sourceRendezvous || s.Records > 0 // points are asked by the way
	}
	return len(c.bootnodes)+len(c.trees) > 0 || c.discv5.IsValid() || asked
}

// failures are the sources that failed.
func (h DiscoveryHealth) failures() string {
	var why []string
	for _, s := range h.Sources {
		switch {
		case s.Failure == "":
		case strings.HasPrefix(s.Name, treeName): // named in the error
			why = append(why, s.Failure)
		default:
			why = append(why, fmt.Sprintf("%s: %s", s.Name, s.Failure))
		}
	}
	return strings.Join(why, "; ")
}

func (h DiscoveryHealth) whyNoPeers() string {
	failures := h.failures()
	switch {
	case !h.looks:
		return ""
	case h.Known == 0 && h.Foreign > 0:
		return fmt.Sprintf(": %s in another cluster, nobody else known%s", count(h.Foreign, "peer"), prefixed("; ", failures))
	case h.Known == 0 && failures != "":
		return ": " + failures
	case h.Known == 0 && len(h.Sources) > 0:
		return ": nobody found yet"
	case h.Known == 0:
		return ""
	case h.Foreign > 0 && h.Foreign >= h.Known-h.Failing:
		return fmt.Sprintf(": %s in another cluster", count(h.Foreign, "peer"))
	case h.Failing == h.Known:
		return fmt.Sprintf(": %s known, none could be reached%s", count(h.Known, "node"), prefixed("; ", failures))
	}
	if nobody := h.nobody(); nobody != "" {
		return ": " + nobody
	}
	return fmt.Sprintf(": trying %s%s", count(h.Known-h.Failing, "node"), prefixed("; ", failures))
}

// nobody names a shard that nobody serves who is known.
func (h DiscoveryHealth) nobody() string {
	for _, m := range h.Missing {
		if m.Have == 0 && m.Known == 0 && m.Service != peers.Store.String() {
			return h.lacks(m)
		}
	}
	return ""
}

// lacks says that nobody who is known serves a shard.
func (h DiscoveryHealth) lacks(m MissingPeers) string {
	doing := map[string]string{"relay": "carries", "filter": "serves filter on", "lightpush": "serves light push on", "store": "keeps"}[m.Service]
	return fmt.Sprintf("of %s known nobody %s shard %s", count(h.Known, "node"), cmp.Or(doing, "serves"), m.Shard)
}

// onShard is what discovery has to say about a shard without peers.
func (h DiscoveryHealth) onShard(s sharding.Shard) string {
	for _, m := range h.Missing {
		if m.Shard != s || m.Have > 0 || m.Service == peers.Store.String() {
			continue
		}
		switch {
		case m.Known > 0:
			return fmt.Sprintf("trying %s", count(m.Known, "node"))
		case h.Known > 0:
			return h.lacks(m)
		default:
			return h.failures()
		}
	}
	return ""
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
