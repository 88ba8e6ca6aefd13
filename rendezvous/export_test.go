package rendezvous

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/internal/reqresp"
)

// What tests need to know.
const (
	MaxRecord  = maxRecord
	MaxRequest = maxRequest
	MaxAnswer  = maxAnswer
	CookieSize = cookieSize
)

var (
	ParseRetryAfter = func(desc string) time.Duration { return reqresp.RetryAfter(desc, maxRetryAfter) }
	AddressKey      = addressKey
	Seal            = func(k crypto.PrivKey, addrs []ma.Multiaddr) ([]byte, error) { return seal(k, addrs) }
)

// Put registers as if from that address, without a look at the record. It returns
// whether there was room.
func (p *Point) Put(from peer.ID, ns, addr string, record []byte, ttl time.Duration) bool {
	return p.put(from, ns, addr, record, time.Now(), ttl) < tooManyOfPeer
}

// Sample is a first answer in a namespace: the peers.
func (p *Point) Sample(ns string, n int) (peers []peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.table.spaces[ns]
	if x == nil {
		return nil
	}
	for _, r := range x.sample(n) {
		peers = append(peers, r.peer)
	}
	return peers
}

// Afford is a request's price.
func (p *Point) Afford(from peer.ID, addr string) bool {
	_, ok := p.afford(from, addr, time.Now())
	return ok
}

// Handle is a request that comes without a stream.
func (p *Point) Handle(from peer.ID, request []byte) ([]byte, error) {
	return p.handle(context.Background(), from, request)
}

// Check says what in the table contradicts itself, "" if nothing does.
func (p *Point) Check() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table
	peers, addrs, spaces, levels := 0, 0, 0, 0
	for id, of := range t.peers {
		if len(of) == 0 || len(of) > t.perPeer {
			return "peer"
		}
		peers += len(of)
		for _, r := range of {
			if r.peer != id || t.heap[r.due] != r {
				return "heap"
			}
			for i, x := range []*index{t.spaces[r.ns], t.all} {
				c := x.byAddr[r.addr]
				if c == nil || x.crowds[c.at] != c || c.members[r.at[i]] != r || x.order[x.after(r.number-1)].reg != r {
					return "index"
				}
			}
		}
	}
	for key, a := range t.addrs {
		if len(a.regs) == 0 || len(a.regs) > t.perAddr || a.key != key || t.levels[len(a.regs)][a.at] != a {
			return "address"
		}
		addrs += len(a.regs)
	}
	for _, x := range t.spaces {
		if x.live == 0 || len(x.order) > 2*x.live+32 || len(x.crowds) != len(x.byAddr) {
			return "namespace"
		}
		spaces += x.live
	}
	bytes := 0
	for _, r := range t.heap {
		bytes += len(r.record)
	}
	if bytes != t.bytes || !t.fits(0) {
		return "bytes"
	}
	for _, l := range t.levels {
		levels += len(l)
	}
	if n := len(t.heap); peers != n || addrs != n || spaces != n || t.all.live != n || levels != len(t.addrs) || n > t.total {
		return "counts"
	}
	return ""
}

// For fuzzing: the codecs without a stream.

// Register is a registration on the wire.
type Register struct {
	NS, Record []byte
	TTL        uint64
	Timed      bool
}

// Request is any request taken apart.
type Request struct {
	Kind   uint32
	Reg    Register
	Limit  uint64
	Cookie []byte
}

// RequestOf reads a request, AppendRequest words one.
func RequestOf(b []byte) (Request, error) {
	r, err := decodeRequest(b)
	return Request{uint32(r.kind), Register(exportRegister(r.reg)), r.limit, r.cookie}, err
}

func exportRegister(r register) Register { return Register{r.ns, r.record, r.ttl, r.timed} }
func (r Register) inner() register       { return register{r.NS, r.Record, r.TTL, r.Timed} }

// AppendRequest words a request.
func AppendRequest(r Request) []byte {
	return appendRequest(nil, request{kind: kind(r.Kind), reg: r.Reg.inner(), limit: r.Limit, cookie: r.Cookie})
}

// Response is any response taken apart.
type Response struct {
	Kind   uint32
	Status StatusCode
	Text   string
	TTL    uint64
	Regs   []Register
	More   int
	Cookie []byte
}

// ResponseOf reads a response of a kind.
func ResponseOf(b []byte, kind_ uint32, limit int) (Response, error) {
	r, err := decodeResponse(b, kind(kind_), limit)
	out := Response{uint32(r.kind), r.status, r.text, r.ttl, nil, r.more, r.cookie}
	for _, g := range r.regs {
		out.Regs = append(out.Regs, exportRegister(g))
	}
	return out, err
}

// AppendResponse words one.
func AppendResponse(r Response) []byte {
	in := response{kind: kind(r.Kind), status: r.Status, text: r.Text, ttl: r.TTL, cookie: r.Cookie}
	for _, g := range r.Regs {
		in.regs = append(in.regs, g.inner())
	}
	return appendResponse(nil, in)
}

// OpenRecord verifies a signed peer record.
func OpenRecord(raw []byte) (info peer.AddrInfo, seq uint64, wrong string) {
	r, wrong := openRecord(raw)
	return peer.AddrInfo{ID: r.peer, Addrs: r.addrs}, r.seq, wrong
}

// LoadSnapshot is whether a snapshot can be read, and how many entries it has.
func LoadSnapshot(b []byte) (n int, err error) {
	err = decodeSnapshot(b, func(registration) { n++ })
	return n, err
}
