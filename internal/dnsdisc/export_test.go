package dnsdisc

import "github.com/status-im/shoal/internal/enr"

// Root is a root entry, for tests.
type Root struct {
	E, L string
	Seq  uint64
	Sig  [64]byte
}

// ParseRoot reads a root without verifying it.
func ParseRoot(text string) (Root, error) {
	r, err := parseRoot(text)
	if err != nil {
		return Root{}, err
	}
	return Root{string(r.records), string(r.links), r.seq, r.sig}, nil
}

// Entry is any other entry, for tests.
type Entry struct {
	Branch   bool
	Children []string
	Record   *enr.Record
	Link     string
	Refused  string
	Bad      int
}

// ParseEntry reads an entry.
func ParseEntry(text string) Entry {
	e := parseEntry(text, keccak256(text))
	out := Entry{Branch: e.branch, Record: e.record, Refused: e.refused, Bad: e.bad}
	for _, r := range e.children {
		out.Children = append(out.Children, string(r))
	}
	if e.link != nil {
		out.Link = e.link.String()
	}
	return out
}
