package waku

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/status-im/shoal/internal/dnsdisc"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/peers"
)

const (
	// treeTimeout bounds reading a list of nodes from DNS.
	treeTimeout = 30 * time.Second
	// A list is read again treeSoon after it was, at the earliest, and while peers
	// are missing every treeLater; after the n-th failure in a row in treeRetry·2ⁿ⁻¹.
	treeSoon  = time.Minute
	treeLater = 30 * time.Minute
	treeRetry = 2 * time.Second
	// longestTreeRetry is the longest of these pauses.
	longestTreeRetry = 5 * time.Minute
	// treeName is what the names of such sources begin with.
	treeName = "DNS list "
)

// readTree keeps reading a list of nodes from DNS while peers are missing.
func (d *discovery) readTree(ctx context.Context, url string) {
	n := d.node
	name, source := stateTree(url), treeName+url
	if u, err := dnsdisc.ParseURL(url); err == nil {
		source = treeName + u.Domain
	}
	last := new(dnsdisc.List)
	if state := n.state.load(ctx, name); state == nil || last.UnmarshalBinary(state) != nil || last.URL != url {
		last = nil
	} else {
		d.heard(peers.DNS, url, last.Records)
	}
	for failures := 0; ; {
		run, ok := d.wait(ctx)
		if !ok {
			return
		}
		reading, done := during(ctx, run)
		reading, cancel := context.WithTimeout(reading, treeTimeout)
		list, err := d.trees.Fetch(reading, url, last)
		cancel()
		done()
		if run.Err() != nil {
			continue
		}
		if list != nil {
			if last == nil || last.Root != list.Root || last.Failed != list.Failed {
				for reason, count := range list.Refused {
					d.refuse(reason, count)
				}
			}
			last = list
			d.heard(peers.DNS, url, list.Records)
			if state, err := list.MarshalBinary(); err == nil {
				n.state.save(name, state)
			}
		}
		records := 0
		if last != nil {
			records = len(last.Records)
		}
		d.note(source, records, err)
		if err == nil {
			failures = 0
			if !n.gate.rest(ctx, treeSoon, nil) || !d.rest(ctx, treeLater-treeSoon) {
				return
			}
			continue
		}
		failures++
		if !n.gate.rest(ctx, time.Second, nil) || !d.rest(ctx, min(treeRetry<<min(failures-1, 16), longestTreeRetry)) {
			return
		}
	}
}

// stateTree is the name that a list is kept under.
func stateTree(url string) string {
	sum := sha256.Sum256([]byte(url))
	return stateTrees + "-" + hex.EncodeToString(sum[:8])
}

// heard puts records into the book, and gives discv5 those that it can begin with.
func (d *discovery) heard(source peers.Source, from string, records []*enr.Record) (fresh int) {
	for _, r := range records {
		if d.found(source, from, r) {
			fresh++
		}
	}
	d.beginWith(source, from, records)
	if fresh > 0 {
		d.changed()
	}
	return fresh
}
