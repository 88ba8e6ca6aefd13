// Package discv5 finds nodes by Discovery v5.1 with Waku's protocol id
// (33/WAKU2-DISCV5), and owns the node's own record meanwhile.
//
// A Service listens on a UDP port, keeps a Kademlia table of whoever speaks
// "d5waku", of whatever cluster, and answers others from it. Next walks the
// network at random and returns the records that the caller wants; while nobody
// calls Next, there are no walks and only the table's own upkeep goes on.
//
// The protocol itself is waku-org/go-discover. Around it there is a guard
// (guard.go) that bounds what strangers can make it do, a record (self.go) that
// votes can't spoil, a memory of good signatures (scheme.go) and a watch on
// lookups that never end (walk.go).
//
// # What a record found means
//
// That somebody signed it, nothing more: addresses may be wrong, dead or a
// victim's. The library keeps at most 10 nodes of a /24 network in its table
// and 2 in a bucket, private and loopback addresses excepted; it believes a
// loopback address only from a loopback node and a private one only from the
// local network.
package discv5

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/enode"
	libp2p "github.com/libp2p/go-libp2p/core/crypto"
	cryptopb "github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/waku-org/go-discover/discover"

	"github.com/status-im/shoal/internal/enr"
)

// ProtocolID takes the place of "discv5" in the packets' headers. Nodes with
// another one don't understand each other.
const ProtocolID = "d5waku"

// Errors of this package; match them with errors.Is.
var (
	ErrClosed     = errors.New("discv5: closed")
	ErrKey        = errors.New("discv5: not a secp256k1 key")
	ErrPortTaken  = errors.New("discv5: UDP port is taken")
	ErrSeq        = errors.New("discv5: sequence number can't be reached")
	ErrNoEndpoint = errors.New("discv5: record names no UDP endpoint")
	ErrNoAnswer   = errors.New("discv5: no answer")
)

// Config is what a Service is made of. Key is required.
type Config struct {
	// Key is the node's libp2p identity, a secp256k1 key; it signs the record.
	Key libp2p.PrivKey
	// Listen is the UDP address. An unspecified IPv6 address, like the zero
	// value, takes both families. Port 0 lets the system choose.
	Listen netip.AddrPort
	// Fields is what the record says. Seq is the least that the first record's
	// number may be, whatever the clock says; zero leaves it to the clock. UDP
	// zero means the port listened on; there is one port for both families, so
	// UDP6 counts only if UDP is zero.
	Fields enr.Fields
	// Fixed keeps the record's IP addresses and UDP port as Fields has them.
	// Otherwise they hold until ten peers from ten addresses, within five
	// minutes, say that they see another endpoint. That holds until ten see
	// another one again, until Set names other addresses than before, or until
	// Refresh. A fixed record without an address names no port either.
	Fixed bool
	// Bootnodes are asked first. Those without a UDP endpoint are passed over.
	Bootnodes []*enr.Record
	// AllowPrivate has packets sent to addresses of LANs and of this machine,
	// whoever names them. Otherwise only bootnodes are asked there, unless Listen
	// is such an address itself.
	AllowPrivate bool
	// Keep tells which records Next returns; nil keeps all. It is called from
	// one goroutine at a time, and again for a record seen again.
	Keep func(*enr.Record) bool
	// OnRecord, if set, is told of records of our own that come from votes, not
	// from Set. Never called concurrently, nor after Close, which waits for it.
	OnRecord func(*enr.Record)
	// Logger is silent by default.
	Logger *slog.Logger

	limits limits // tests only; zero: defaultLimits
}

// Service is a running node of the discovery network.
type Service struct {
	cfg  Config
	log  *slog.Logger
	self *self
	conn *guard
	udp  *discover.UDPv5
	walk *walker
	ids  *scheme

	seeding seeding
	asking  chan struct{} // slots for ask

	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // protects closed, and tasks from growing after it
	closed bool
	tasks  sync.WaitGroup
	ended  chan struct{}
}

// maxResolves bounds how many nodes are asked for their records at once.
const maxResolves = 32

// Listen starts a Service. The error is ErrKey, ErrPortTaken, ErrSeq, one of
// enr.Build (of Fields) or the system's.
func Listen(cfg Config) (*Service, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Keep == nil {
		cfg.Keep = func(*enr.Record) bool { return true }
	}
	if cfg.limits == (limits{}) {
		cfg.limits = defaultLimits
	}
	key, err := ecdsaKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, log: cfg.Logger, ids: newScheme(), asking: make(chan struct{}, maxResolves), ended: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.conn, err = openGuard(cfg.Listen, enode.PubkeyToIDV4(&key.PublicKey), cfg.limits, cfg.Logger); err != nil {
		s.cancel()
		return nil, err
	}
	if s.self, err = newSelf(cfg, key, s.conn.local); err != nil {
		s.cancel()
		s.conn.Close()
		return nil, err
	}
	s.conn.afterPacket = s.self.look
	ip := s.conn.local.Addr()
	s.conn.anywhere = cfg.AllowPrivate || isLocal(ip) && !ip.IsUnspecified()
	s.addBootnodes(cfg.Bootnodes)
	s.udp, err = discover.ListenV5(s.ctx, s.conn, s.self.node, discover.Config{
		PrivateKey:   key,
		Bootnodes:    s.seeding.known(),
		V5ProtocolID: (*[6]byte)([]byte(ProtocolID)),
		ValidSchemes: s.ids,
	})
	if err != nil {
		s.cancel()
		s.conn.Close()
		s.self.close()
		return nil, fmt.Errorf("discv5: %w", err)
	}
	s.walk = newWalker(s)
	s.begin(s.walk.run)
	s.begin(s.reportRecords)
	return s, nil
}

func ecdsaKey(key libp2p.PrivKey) (*ecdsa.PrivateKey, error) {
	if key == nil || key.Type() != cryptopb.KeyType_Secp256k1 {
		return nil, ErrKey
	}
	raw, err := key.Raw()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	k, err := crypto.ToECDSA(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return k, nil
}

// Addr is where the Service listens.
func (s *Service) Addr() netip.AddrPort { return s.conn.local }

// Record returns the node's own record, signed, as others are told it now.
func (s *Service) Record() *enr.Record { return s.self.current() }

// Set says something else from now on: shards, services or addresses have
// changed. If that changes the record, its number grows, usually by one. The
// error is one of enr.Build and leaves the record as it was.
//
// What doesn't fit into 300 bytes is left out as enr.Build does it, but so that
// there is room for what votes may add.
func (s *Service) Set(f enr.Fields) (*enr.Record, error) { return s.self.set(f) }

func (s *Service) reportRecords() {
	for {
		select {
		case <-s.self.changed:
			if r := s.self.unreported(); r != nil {
				s.log.Info("discv5: peers see another address of ours", "seq", r.Seq(), "ip4", r.Fields().IP4, "ip6", r.Fields().IP6, "udp", r.Fields().UDP)
				if s.cfg.OnRecord != nil {
					s.cfg.OnRecord(r)
				}
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// begin runs f in a goroutine that Close waits for, or returns false after it.
func (s *Service) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.tasks.Go(f)
	return true
}

// closePatience is how long Close waits for the library. There a question that is answered
// and timed out in the same moment as Close can keep it from ending, for good.
const closePatience = 5 * time.Second

// Close ends the Service: it returns when everything it started has ended,
// within about a second.
func (s *Service) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		<-s.ended
		return nil
	}
	s.cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.udp.Close()
	}()
	select {
	case <-ended:
	case <-time.After(closePatience):
	}
	s.tasks.Wait()
	s.self.close()
	close(s.ended)
	return nil
}

// Stats are counters since the start, and the table's present size.
type Stats struct {
	Table     int    // nodes in the routing table
	Bootnodes int    // those that have a UDP endpoint
	Found     uint64 // records that Next has returned
	// Refused counts records that Next didn't return, by reason: "unwanted"
	// (Keep said no), "crowded" (too many of one address), "signature",
	// "malformed". One that is told again counts again.
	Refused map[string]uint64
	// In and Out are packets. Dropped are those of In that went no further, by
	// reason: "size", "protocol" (another id, or noise), "flood", "strangers"
	// (too many packets of those we never talked to), "identities" (too many of one
	// address); or that weren't sent: "private" (to a LAN that a stranger named).
	In, Out uint64
	Dropped map[string]uint64
	// Stuck counts lookups that a peer keeps from ending, at the moment.
	Stuck int
}

// Stats returns the counters.
func (s *Service) Stats() Stats {
	st := Stats{Table: len(s.udp.AllNodes()), Bootnodes: len(s.seeding.known())}
	s.conn.stats(&st)
	s.walk.stats(&st)
	st.Refused["signature"] = s.ids.refused.Load()
	return st
}

// Table returns the records of the routing table: good bootnodes for the next
// start.
func (s *Service) Table() []*enr.Record {
	var out []*enr.Record
	for _, n := range s.udp.AllNodes() {
		if r, err := enr.Verified(n.Record()); err == nil {
			out = append(out, r)
		}
	}
	return out
}

// resolveTimeout ends a Resolve that a peer keeps from ending.
const resolveTimeout = 5 * time.Second
