package discv5_test

import (
	"crypto/ecdsa"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/mclock"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/enode"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/stretchr/testify/require"
	"github.com/waku-org/go-discover/discover/v5wire"

	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/enr"
)

// raw is a node that speaks by hand: it completes handshakes, and answers as
// onPing and onFind say.
type raw struct {
	t     testing.TB
	key   *ecdsa.PrivateKey
	local *enode.LocalNode
	db    *enode.DB
	conn  *net.UDPConn
	mu    sync.Mutex // of codec and pending
	codec *v5wire.Codec
	// Called by the reader.
	onPing func(p *v5wire.Ping, from *net.UDPAddr) []v5wire.Packet
	onFind func(p *v5wire.Findnode, from *net.UDPAddr) []v5wire.Packet
	onPong func(p *v5wire.Pong)
	// pending is what the handshake in progress is about.
	pending   v5wire.Packet
	pendingTo *enode.Node
	finds     atomic.Int64
	done      chan struct{}
}

func newRaw(t testing.TB, at netip.Addr, protocol string, entries ...gethenr.Entry) *raw {
	t.Helper()
	r := &raw{t: t, done: make(chan struct{})}
	var err error
	r.key, err = crypto.GenerateKey()
	require.NoError(t, err)
	r.db, err = enode.OpenDB("")
	require.NoError(t, err)
	r.conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	require.NoError(t, err)
	r.local = enode.NewLocalNode(r.db, r.key)
	r.local.SetStaticIP(at.AsSlice())
	r.local.SetFallbackUDP(r.conn.LocalAddr().(*net.UDPAddr).Port)
	r.local.Set(gethenr.WithEntry("waku2", []byte{1}))
	for _, e := range entries {
		r.local.Set(e)
	}
	r.codec = v5wire.NewCodec(r.local, r.key, mclock.System{}, (*[6]byte)([]byte(protocol)))
	r.onPing = func(p *v5wire.Ping, from *net.UDPAddr) []v5wire.Packet {
		return []v5wire.Packet{&v5wire.Pong{ReqID: p.ReqID, ENRSeq: r.local.Node().Seq(), ToIP: from.IP.To4(), ToPort: uint16(from.Port)}}
	}
	r.onFind = func(p *v5wire.Findnode, _ *net.UDPAddr) []v5wire.Packet {
		return []v5wire.Packet{&v5wire.Nodes{ReqID: p.ReqID, RespCount: 1}}
	}
	t.Cleanup(r.close)
	return r
}

// start answers from now on.
func (r *raw) start() *raw {
	go r.read()
	return r
}

func (r *raw) close() {
	_ = r.conn.Close()
	select {
	case <-r.done:
	case <-time.After(time.Second):
	}
	r.db.Close()
}

func (r *raw) record(t testing.TB) *enr.Record {
	t.Helper()
	rec, err := enr.Parse(r.local.Node().String())
	require.NoError(t, err)
	return rec
}

// greet sends a packet to a node, with a handshake if need be.
func (r *raw) greet(s *discv5.Service, p v5wire.Packet) {
	n := enode.MustParse(s.Record().String())
	r.mu.Lock()
	r.pending, r.pendingTo = p, n
	r.mu.Unlock()
	r.send(n.ID(), net.UDPAddrFromAddrPort(s.Addr()), p, nil)
}

// trickle sends a packet within a session, beside the reader.
func (r *raw) trickle(s *discv5.Service, to *net.UDPAddr, p v5wire.Packet) {
	r.send(enode.ID(s.Record().NodeID()), to, p, nil)
}

func (r *raw) send(id enode.ID, to *net.UDPAddr, p v5wire.Packet, challenge *v5wire.Whoareyou) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, _, err := r.codec.Encode(id, to.String(), p, challenge); err == nil {
		_, _ = r.conn.WriteToUDP(b, to)
	}
}

func (r *raw) read() {
	defer close(r.done)
	buf := make([]byte, 1500)
	for {
		n, from, err := r.conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		id, _, packet, err := r.codec.Decode(buf[:n], from.String())
		r.mu.Unlock()
		if err != nil {
			continue
		}
		switch p := packet.(type) {
		case *v5wire.Unknown:
			w := &v5wire.Whoareyou{Nonce: p.Nonce}
			for i := range w.IDNonce {
				w.IDNonce[i] = byte(rand.IntN(256))
			}
			r.send(id, from, w, nil)
		case *v5wire.Whoareyou:
			r.mu.Lock()
			about := r.pending
			p.Node, r.pending = r.pendingTo, nil
			r.mu.Unlock()
			if about != nil {
				r.send(p.Node.ID(), from, about, p)
			}
		case *v5wire.Ping:
			r.answer(id, from, r.onPing(p, from))
		case *v5wire.Findnode:
			r.finds.Add(1)
			r.answer(id, from, r.onFind(p, from))
		case *v5wire.Pong:
			if r.onPong != nil {
				r.onPong(p)
			}
		}
	}
}

func (r *raw) answer(id enode.ID, to *net.UDPAddr, packets []v5wire.Packet) {
	for _, p := range packets {
		r.send(id, to, p, nil)
	}
}
