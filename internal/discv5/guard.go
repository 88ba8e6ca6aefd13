package discv5

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
	"golang.org/x/time/rate"
)

// A packet: 16 bytes that seed the mask, a masked header of 23 (protocol id,
// version, flag, nonce, length of what follows) and, but for WHOAREYOU, the
// sender's id.
const (
	minPacket     = 63
	maxPacket     = 1280
	headerAt      = 16
	headerLen     = 23
	flagAt        = 8
	flagHandshake = 2
	// whoareyouLen is the length of a WHOAREYOU, and of nothing else: it is the
	// only packet that strangers get from us.
	whoareyouLen = 63
)

// limits bound what others can make us do.
type limits struct {
	// Packets of strangers, those to whom we have sent nothing but challenges
	// within the last minute: per second and at once, all together and per
	// address (IPv6: /64).
	strangers, strangersBurst   int
	perStranger, perStrangerMax int
	// Packets of an endpoint that we do talk to.
	perPeer, perPeerBurst int
	// A peer who sends so many packets in a minute isn't heard for the next
	// second. Any answer that isn't the last keeps a call alive for the
	// library's 700 ms more, and nothing in the protocol says that there must be
	// a last one: whoever goes on stops a lookup, or the table's upkeep, for
	// good. It takes 86 packets a minute; a silence of a second ends it.
	chatter int
	// Identities that may shake hands from one address, within ten minutes.
	identities int
	// Nodes of one address that Next returns, within ten minutes.
	crowd int
	// loopback says that loopback addresses are limited too.
	loopback bool
}

// The library scans all open challenges for every packet, and challenges are
// what strangers cause; hence their sum. A node's own neighbourhood sends a few
// packets a minute each.
var defaultLimits = limits{
	strangers: 200, strangersBurst: 1000,
	perStranger: 10, perStrangerMax: 100,
	perPeer: 50, perPeerBurst: 500,
	chatter:    80,
	identities: 32,
	crowd:      10,
}

// guard is the socket as the library sees it: it drops what needn't be looked
// at, never fails while it is open, and counts.
type guard struct {
	id          enode.ID
	block       cipher.Block
	limits      limits
	log         *slog.Logger
	network     string
	local       netip.AddrPort
	afterPacket func()

	mu     sync.Mutex // protects conn and closed
	conn   *net.UDPConn
	closed bool
	done   chan struct{}

	anywhere bool // LANs included
	trusted  atomic.Pointer[map[netip.AddrPort]bool]
	private  atomic.Uint64 // packets not sent to a LAN

	in, out                                         atomic.Uint64
	badSize, badProtocol, flooded, strange, crowded atomic.Uint64

	// Only the reader's, but for peers.
	buf        []byte
	all        *rate.Limiter
	strangers  *recent[netip.Prefix, *rate.Limiter]
	identities *recent[netip.Prefix, map[enode.ID]bool]
	peersMu    sync.Mutex
	peers      *recent[netip.AddrPort, *talker]
}

// talker is an endpoint that we have talked to.
type talker struct {
	budget *rate.Limiter
	// heard counts packets since a moment, within the minute. Only the reader's.
	heard int
	since time.Time
	muted time.Time // until then
}

// silence ends every call that waits for another answer.
const silence = time.Second

// admit counts a packet and says whether it is heard.
func (p *talker) admit(now time.Time, l limits) bool {
	if now.Before(p.muted) {
		return false
	}
	if now.Sub(p.since) >= time.Minute {
		p.heard, p.since = 0, now
	}
	if p.heard++; p.heard > l.chatter {
		p.heard, p.since, p.muted = 0, now.Add(silence), now.Add(silence)
		return false
	}
	return p.budget.AllowN(now, 1)
}

func openGuard(at netip.AddrPort, id enode.ID, l limits, log *slog.Logger) (*guard, error) {
	g := &guard{
		id: id, limits: l, log: log, done: make(chan struct{}),
		afterPacket: func() {},
		buf:         make([]byte, maxPacket+1),
		all:         rate.NewLimiter(rate.Limit(l.strangers), l.strangersBurst),
		strangers:   newRecent[netip.Prefix, *rate.Limiter](time.Minute, 4096),
		identities:  newRecent[netip.Prefix, map[enode.ID]bool](10*time.Minute, 4096),
		peers:       newRecent[netip.AddrPort, *talker](time.Minute, 4096),
	}
	var err error
	if g.block, err = aes.NewCipher(id[:16]); err != nil {
		return nil, err
	}
	switch ip := at.Addr(); {
	case ip.Is4() || ip.Is4In6():
		g.network = "udp4"
	case ip.IsValid() && !ip.IsUnspecified():
		g.network = "udp6"
	default:
		g.network = "udp"
	}
	if g.conn, err = net.ListenUDP(g.network, net.UDPAddrFromAddrPort(at)); err != nil {
		if portTaken(err) {
			return nil, fmt.Errorf("%w: %w", ErrPortTaken, err)
		}
		return nil, fmt.Errorf("discv5: %w", err)
	}
	local := g.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if ip := local.Addr().Unmap(); g.network == "udp4" {
		local = netip.AddrPortFrom(ip, local.Port())
	}
	g.local = local
	return g, nil
}

func portTaken(err error) bool {
	const wsaeaddrinuse = syscall.Errno(10048)
	var no syscall.Errno
	if !errors.As(err, &no) {
		return false
	}
	return no == syscall.EADDRINUSE || runtime.GOOS == "windows" && no == wsaeaddrinuse
}

// ReadFromUDP implements discover.UDPConn. The library calls it when it is done
// with the packet before. An error would end its reading for good, so there is
// none but at the end.
func (g *guard) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	g.afterPacket()
	for failures := 0; ; {
		conn, err := g.socket()
		if err != nil {
			return 0, nil, err
		}
		n, from, err := conn.ReadFromUDPAddrPort(g.buf)
		if err != nil {
			failures++
			g.failed(conn, failures, err)
			continue
		}
		failures = 0
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		g.in.Add(1)
		if g.admit(g.buf[:n], from) {
			return copy(b, g.buf[:n]), net.UDPAddrFromAddrPort(from), nil
		}
	}
}

func (g *guard) socket() (*net.UDPConn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, net.ErrClosed
	}
	return g.conn, nil
}

// failed waits after a failed read, and from the sixth in a row on tries to
// listen anew: systems take sockets away from sleeping programs.
func (g *guard) failed(conn *net.UDPConn, failures int, err error) {
	wait := min(time.Second, time.Millisecond<<min(failures, 10))
	select {
	case <-time.After(wait):
	case <-g.done:
		return
	}
	if failures < 6 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.log.Warn("discv5: listening anew", "err", err)
	_ = conn.Close()
	if again, err := net.ListenUDP(g.network, net.UDPAddrFromAddrPort(g.local)); err == nil {
		g.conn = again
	}
}

// WriteToUDP implements discover.UDPConn.
func (g *guard) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) {
	conn, err := g.socket()
	if err != nil {
		return 0, err
	}
	if len(b) != whoareyouLen {
		at := to.AddrPort()
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		if !g.maySend(at) {
			g.private.Add(1)
			return len(b), nil
		}
		g.peer(at, true)
	}
	g.out.Add(1)
	return conn.WriteToUDP(b, to)
}

// maySend tells whether we begin to talk there: anybody can shake hands with a record
// that names a victim's LAN.
func (g *guard) maySend(at netip.AddrPort) bool {
	if g.anywhere || !isLocal(at.Addr()) {
		return true
	}
	trusted := g.trusted.Load()
	return trusted != nil && (*trusted)[at]
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// isLocal tells addresses that are somebody else's on every LAN, or nobody's.
func isLocal(ip netip.Addr) bool {
	return !ip.IsGlobalUnicast() || ip.IsPrivate() || carrierNAT.Contains(ip)
}

// LocalAddr implements discover.UDPConn.
func (g *guard) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(g.local) }

// Close implements discover.UDPConn.
func (g *guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	close(g.done)
	return g.conn.Close()
}

// peer returns an endpoint that we have talked to, nil if we haven't. Talking
// makes it one.
func (g *guard) peer(at netip.AddrPort, talking bool) *talker {
	g.peersMu.Lock()
	defer g.peersMu.Unlock()
	now := time.Now()
	p, _ := g.peers.get(at, now)
	if !talking {
		return p
	}
	if p == nil {
		p = &talker{budget: rate.NewLimiter(rate.Limit(g.limits.perPeer), g.limits.perPeerBurst)}
	}
	g.peers.put(at, p, now)
	return p
}

// admit decides whether the library gets to see a packet.
func (g *guard) admit(b []byte, from netip.AddrPort) bool {
	if len(b) < minPacket || len(b) > maxPacket {
		g.badSize.Add(1)
		return false
	}
	flag, sender, ok := g.header(b)
	if !ok {
		g.badProtocol.Add(1)
		return false
	}
	if from.Addr().IsLoopback() && !g.limits.loopback {
		return true
	}
	now, network := time.Now(), networkOf(from.Addr())
	if p := g.peer(from, false); p != nil {
		if !p.admit(now, g.limits) {
			g.flooded.Add(1)
			return false
		}
	} else {
		budget, ok := g.strangers.get(network, now)
		if !ok {
			budget = rate.NewLimiter(rate.Limit(g.limits.perStranger), g.limits.perStrangerMax)
			g.strangers.put(network, budget, now)
		}
		if !budget.AllowN(now, 1) || !g.all.AllowN(now, 1) {
			g.strange.Add(1)
			return false
		}
	}
	if flag == flagHandshake {
		ids, _ := g.identities.get(network, now)
		if !ids[sender] {
			if len(ids) >= g.limits.identities {
				g.crowded.Add(1)
				return false
			}
			if ids == nil {
				ids = make(map[enode.ID]bool)
				g.identities.put(network, ids, now)
			}
			ids[sender] = true
		}
	}
	return true
}

// header unmasks what comes first in a packet. The sender is that of a message
// or a handshake.
func (g *guard) header(b []byte) (flag byte, sender enode.ID, ok bool) {
	var head [headerLen + len(enode.ID{})]byte
	n := copy(head[:], b[headerAt:])
	cipher.NewCTR(g.block, b[:headerAt]).XORKeyStream(head[:n], head[:n])
	if string(head[:6]) != ProtocolID || binary.BigEndian.Uint16(head[6:8]) == 0 || head[flagAt] > flagHandshake {
		return 0, sender, false
	}
	copy(sender[:], head[headerLen:n])
	return head[flagAt], sender, true
}

// networkOf is what one attacker surely has: an IPv4 address or an IPv6 /64.
func networkOf(ip netip.Addr) netip.Prefix {
	length := 64
	if ip.Is4() {
		length = 32
	}
	p, _ := ip.Prefix(length)
	return p
}

func (g *guard) stats(st *Stats) {
	st.In, st.Out = g.in.Load(), g.out.Load()
	st.Dropped = map[string]uint64{
		"size": g.badSize.Load(), "protocol": g.badProtocol.Load(),
		"flood": g.flooded.Load(), "strangers": g.strange.Load(), "identities": g.crowded.Load(),
		"private": g.private.Load(),
	}
}
