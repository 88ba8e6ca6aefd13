// Package dnsdisc finds nodes through DNS (EIP-1459): a signed tree of node
// records in TXT records below one domain name, named by a URL that holds the
// signer's public key.
//
//	enrtree://<base32 key>@<domain>                           where to begin
//	enrtree-root:v1 e=<hash> l=<hash> seq=<n> sig=<base64>    TXT at <domain>
//	enrtree-branch:<hash>,<hash>,…                            TXT at <hash>.<domain>
//	enr:…                                                     a leaf below e
//	enrtree://…                                               a leaf below l: another tree
//
// A hash is the base32 of the first 16 bytes of the keccak256 of the text found
// at its name. Since the root is signed and names everything else by hash, a
// resolver can hold things back but make nothing up.
//
// [Client.Fetch] reads a tree and the trees it links to, everything bounded;
// what can't be read or believed is counted, and doesn't spoil the rest. The
// [List] it returns is also the cache for the next time: entries once read are
// not looked up again, across restarts too (MarshalBinary).
//
// What a record says isn't judged here: cluster, shards and addresses are for
// the caller.
package dnsdisc

import (
	"cmp"
	"context"
	"net"
	"time"

	"github.com/status-im/shoal/internal/enr"
)

// Refresh is how often a tree is worth reading again.
const Refresh = 30 * time.Minute

// Defaults of Config.
const (
	DefaultTimeout     = 5 * time.Second
	DefaultTotal       = time.Minute
	DefaultTries       = 3
	DefaultBackoff     = 250 * time.Millisecond
	DefaultConcurrency = 8
	DefaultMaxRecords  = 2000
	DefaultMaxLookups  = 16000
	DefaultMaxDepth    = 10
	DefaultMaxLinks    = 8
	DefaultMaxBytes    = MaxCacheSize / 2
)

// Config says how trees are read. The zero value is good.
type Config struct {
	// Resolver answers the questions; nil: the system's resolver.
	Resolver Resolver

	Timeout time.Duration // of one lookup; 0: DefaultTimeout
	Total   time.Duration // of one Fetch, whatever its context says; 0: DefaultTotal
	// Tries is how often a name is asked for before it counts as failed; 0:
	// DefaultTries. Between them Backoff passes, then twice, four times as
	// long, give or take a half; 0: DefaultBackoff.
	Tries   int
	Backoff time.Duration
	// Concurrency is how many lookups run at once; 0: DefaultConcurrency.
	Concurrency int

	// Limits of one Fetch, linked trees included. What lies beyond them is
	// left out, and the error says so. 0: the defaults.
	MaxRecords int // good records
	MaxLookups int // questions asked, repeated ones included
	MaxDepth   int // branches above one another
	MaxLinks   int // linked trees
	MaxBytes   int // text of all entries together

	// Found, if set, is called for each good record as soon as it is read,
	// without waiting for slower ones; from the goroutine of Fetch. Records
	// that were in last aren't told again. A later one may be a newer record
	// of the same node.
	Found func(tree string, r *enr.Record)

	Now func() time.Time // nil: time.Now
}

func (cfg Config) withDefaults() Config {
	if cfg.Resolver == nil {
		cfg.Resolver = new(net.Resolver)
	}
	cfg.Timeout = cmp.Or(max(cfg.Timeout, 0), DefaultTimeout)
	cfg.Total = cmp.Or(max(cfg.Total, 0), DefaultTotal)
	cfg.Tries = cmp.Or(max(cfg.Tries, 0), DefaultTries)
	cfg.Backoff = cmp.Or(max(cfg.Backoff, 0), DefaultBackoff)
	cfg.Concurrency = cmp.Or(max(cfg.Concurrency, 0), DefaultConcurrency)
	cfg.MaxRecords = cmp.Or(max(cfg.MaxRecords, 0), DefaultMaxRecords)
	cfg.MaxLookups = cmp.Or(max(cfg.MaxLookups, 0), DefaultMaxLookups)
	cfg.MaxDepth = cmp.Or(max(cfg.MaxDepth, 0), DefaultMaxDepth)
	cfg.MaxLinks = cmp.Or(max(cfg.MaxLinks, 0), DefaultMaxLinks)
	cfg.MaxBytes = cmp.Or(max(cfg.MaxBytes, 0), DefaultMaxBytes)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg
}

// Client reads trees. It keeps nothing between calls and may be used by
// several goroutines at once; Found is then called by each of them.
type Client struct{ cfg Config }

// New returns a Client.
func New(cfg Config) *Client {
	cfg = cfg.withDefaults()
	cfg.Resolver = rooted(cfg.Resolver)
	return &Client{cfg: cfg}
}

// Fetch reads the tree at url. last, which may be nil, is what was read before:
// only what changed since is looked up, which is one name per tree if nothing
// did.
//
// The List is the best there is. It is nil when there is none at all, last when
// the tree's root can't be read or believed now, and otherwise what could be
// read; where entries of a new tree are missing, records of last fill in. The
// error is nil when nothing is missing, and otherwise an *Error: a List with an
// error is of use.
func (c *Client) Fetch(ctx context.Context, url string, last *List) (*List, error) {
	u, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Total)
	defer cancel()
	f := newFetch(c.cfg, u, last)
	f.run(ctx)
	return f.list()
}
