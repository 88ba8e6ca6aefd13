package discv5_test

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/enode"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"github.com/waku-org/go-discover/discover/v5wire"

	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
)

// sibyls makes up to n nodes at one of the distances from a node, all at ip.
func sibyls(n int, of enode.ID, distances []uint, ip netip.Addr, entries ...gethenr.Entry) (out []*gethenr.Record) {
	for len(out) < n {
		key, err := crypto.GenerateKey()
		if err != nil {
			panic(err)
		}
		if !slices.Contains(distances, uint(enode.LogDist(of, enode.PubkeyToIDV4(&key.PublicKey)))) {
			continue
		}
		r := new(gethenr.Record)
		r.SetSeq(1 << 60)
		r.Set(gethenr.IPv4Addr(ip))
		r.Set(gethenr.TCP(60000))
		r.Set(gethenr.UDP(9000))
		r.Set(gethenr.WithEntry("waku2", []byte{1}))
		for _, e := range entries {
			r.Set(e)
		}
		if err := enode.SignV4(r, key); err != nil {
			panic(err)
		}
		out = append(out, r)
	}
	return out
}

func nodes(p *v5wire.Findnode, records []*gethenr.Record) (out []v5wire.Packet) {
	parts := slices.Collect(slices.Chunk(records, 3))
	for _, part := range parts {
		out = append(out, &v5wire.Nodes{ReqID: p.ReqID, RespCount: uint8(len(parts)), Nodes: part})
	}
	return out
}

var shard1 = gethenr.WithEntry("rs", []byte{0, 16, 1, 0, 1})

// A peer answers every question with new nodes of one address: few of them get
// through, and the honest are found.
func TestSibylsByHearsay(t *testing.T) {
	t.Parallel()
	liar := newRaw(t, loopback, discv5.ProtocolID, shard1)
	liar.onFind = func(p *v5wire.Findnode, _ *net.UDPAddr) []v5wire.Packet {
		if slices.Contains(p.Distances, 0) {
			return nodes(p, []*gethenr.Record{liar.local.Node().Record()})
		}
		return nodes(p, sibyls(15, liar.local.ID(), p.Distances[:1], netip.MustParseAddr("20.0.0.1"), shard1))
	}
	liar.start()
	first := listen(t, 1, shards(16, 1))
	s := listen(t, 2, shards(16, 1), boot(first), discv5.WithLimits(func(l *discv5.Limits) { l.Crowd = 5 }),
		func(c *discv5.Config) { c.Bootnodes = append(c.Bootnodes, liar.record(t)) })
	honest := []*discv5.Service{first}
	for i := 10; i < 14; i++ {
		honest = append(honest, listen(t, i, shards(16, 1), boot(first), at(byte(i))))
	}
	missing := map[peer.ID]bool{}
	for _, h := range honest {
		missing[h.Record().PeerID()] = true
	}
	lies := 0
	for all := within(t, soon); len(missing) > 0 || s.Stats().Refused["crowded"] == 0; {
		require.NoError(t, all.Err(), "%d missing, %+v", len(missing), s.Stats())
		ctx, cancel := context.WithTimeout(all, 200*time.Millisecond)
		r, err := s.Next(ctx)
		cancel()
		if err != nil {
			continue
		}
		if r.Fields().IP4.String() == "20.0.0.1" {
			lies++
		}
		delete(missing, r.PeerID())
	}
	require.LessOrEqual(t, lies, 5)
}

// Among records that are wrong in every way, the good ones are found.
func TestGarbageRecords(t *testing.T) {
	t.Parallel()
	first := listen(t, 1, shards(16, 1))
	liar := newRaw(t, loopback, discv5.ProtocolID, shard1)
	// Only the liar knows it, and is asked for it in every other lookup.
	var hidden *discv5.Service
	var hiddenNode *enode.Node
	for key := 2; hidden == nil || enode.LogDist(liar.local.ID(), hiddenNode.ID()) != 256; key++ {
		hidden = listen(t, key, shards(16, 1), at(2))
		hiddenNode = enode.MustParse(hidden.Record().String())
	}
	liar.onFind = func(p *v5wire.Findnode, _ *net.UDPAddr) []v5wire.Packet {
		if slices.Contains(p.Distances, 0) {
			return nodes(p, []*gethenr.Record{liar.local.Node().Record()})
		}
		one := func(ip string, entries ...gethenr.Entry) *gethenr.Record {
			return sibyls(1, liar.local.ID(), p.Distances[:1], netip.MustParseAddr(ip), entries...)[0]
		}
		rsv := make([]byte, 130)
		rsv[1] = 16
		told := []*gethenr.Record{
			tampered(one("20.0.0.1", shard1)),
			one("20.0.0.2", gethenr.WithEntry("rs", []byte{0, 99, 1, 0, 1})),
			one("20.0.0.3", shard1, gethenr.WithEntry("rsv", rsv[:100])),
			one("20.0.0.4", gethenr.WithEntry("rs", []byte{0, 16, 200, 0, 1})),
			one("20.0.0.5", gethenr.WithEntry("rs", uint64(7))),
			one("20.0.0.6", gethenr.WithEntry("rsv", rsv)),
			one("20.0.0.7", shard1, gethenr.WithEntry("multiaddrs", []byte{0, 3, 0xff, 0xff, 0x7f, 0xff, 0xff})),
			one("0.0.0.0", shard1), one("224.0.0.1", shard1), one("255.255.255.255", shard1),
			one("20.0.0.8", shard1, gethenr.UDP(53)),
			one("20.0.0.9"),
		}
		if slices.Contains(p.Distances, uint(enode.LogDist(liar.local.ID(), hiddenNode.ID()))) {
			told = append(told, hiddenNode.Record())
		}
		return nodes(p, told)
	}
	liar.start()
	s := listen(t, 300, shards(16, 1), boot(first), serving(16, 1), func(c *discv5.Config) {
		c.Bootnodes = append(c.Bootnodes, liar.record(t))
	})
	ctx := within(t, soon)
	for {
		r, err := s.Next(ctx)
		require.NoError(t, err, "%+v", s.Stats())
		ip := r.Fields().IP4
		require.True(t, ip.IsLoopback() || ip.String() == "20.0.0.3" || ip.String() == "20.0.0.7", "%s", ip)
		if r.PeerID() == hidden.Record().PeerID() {
			break
		}
	}
	looking, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { // without anybody asking there are no lookups
		for {
			if _, err := s.Next(looking); err != nil {
				return
			}
		}
	})
	p2ptest.Eventually(t, func() bool {
		st := s.Stats()
		return st.Refused["signature"] > 0 && st.Refused["unwanted"] > 0
	}, "counted")
	stop()
	done.Wait()
}

// tampered returns a record that says something else than what was signed.
func tampered(r *gethenr.Record) *gethenr.Record {
	raw, err := rlp.EncodeToBytes(r)
	if err != nil {
		panic(err)
	}
	raw[len(raw)-1] ^= 2 // waku2
	bad := new(gethenr.Record)
	if err := rlp.DecodeBytes(raw, bad); err != nil {
		panic(err)
	}
	return bad
}

// Many identities introduce themselves from one address.
func TestSibylsInPerson(t *testing.T) {
	t.Parallel()
	s := listen(t, 1, shards(16, 1), discv5.WithLimits(func(l *discv5.Limits) { l.Identities = 3 }))
	answered := 0
	for range 6 {
		r := newRaw(t, loopback, discv5.ProtocolID, shard1)
		pong := make(chan bool, 10)
		r.onPong = func(*v5wire.Pong) { pong <- true }
		r.start()
		before := s.Stats().Dropped["identities"]
		for done := false; !done; {
			r.greet(s, &v5wire.Ping{ReqID: []byte{1}, ENRSeq: 1})
			select {
			case <-pong:
				answered++
				done = true
			case <-time.After(200 * time.Millisecond):
				done = s.Stats().Dropped["identities"] > before
			}
		}
	}
	require.Equal(t, 3, answered)
	require.LessOrEqual(t, len(s.Table()), 3)
	_, err := listen(t, 2, shards(16, 1), at(2)).Resolve(within(t, soon), s.Record())
	require.NoError(t, err, "from another address there is room")
}

// A peer answers without end: "so many parts", and then parts without number.
func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	first := listen(t, 1, shards(16, 1), at(7))
	s := listen(t, 2, shards(16, 1), discv5.WithLimits(func(l *discv5.Limits) { l.Chatter = 12 }))
	stop := make(chan struct{})
	defer close(stop)
	endless := newRaw(t, netip.MustParseAddr("127.0.0.8"), discv5.ProtocolID, shard1)
	type call struct {
		id []byte
		to *net.UDPAddr
	}
	calls := make(chan call, 100)
	endless.onFind = func(p *v5wire.Findnode, from *net.UDPAddr) []v5wire.Packet {
		select {
		case calls <- call{p.ReqID, from}:
		default:
		}
		return nil
	}
	endless.start()
	go func() {
		var now call
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case now = <-calls:
			case <-tick.C:
				if now.to != nil {
					endless.trickle(s, now.to, &v5wire.Nodes{ReqID: now.id, RespCount: 0})
				}
			case <-stop:
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := s.Resolve(ctx, endless.record(t))
	require.ErrorIs(t, err, discv5.ErrNoAnswer)
	require.Positive(t, s.Stats().Dropped["flood"])
	s.AddBootnodes([]*enr.Record{endless.record(t), first.Record()})
	for {
		r, err := s.Next(ctx)
		require.NoError(t, err)
		if r.PeerID() == first.Record().PeerID() {
			break
		}
	}
}

// Noise, of every length.
func TestGarbage(t *testing.T) {
	t.Parallel()
	s := listen(t, 1, shards(16, 1), discv5.WithLimits(func(l *discv5.Limits) { l.PerStranger = 1 }))
	foreign := newRaw(t, loopback, "discv5")
	foreign.greet(s, &v5wire.Ping{ReqID: []byte{1}})
	foreign.start()
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.Addr()))
	require.NoError(t, err)
	defer c.Close()
	sent := uint64(0)
	for n := 1; n < 1500; n += 7 {
		b := make([]byte, n)
		_, _ = rand.Read(b)
		_, err := c.Write(b)
		require.NoError(t, err)
		if sent++; sent%50 == 0 {
			p2ptest.Eventually(t, func() bool { return s.Stats().In >= sent }, "read")
		}
	}
	p2ptest.Eventually(t, func() bool { return s.Stats().In == sent+1 }, "read")
	st := s.Stats()
	require.Equal(t, sent+1, st.Dropped["size"]+st.Dropped["protocol"])
	require.Zero(t, st.Out)
	require.Zero(t, st.Table)
	honest := listen(t, 2, shards(16, 1), at(2), boot(s))
	find(t, honest, s)
}

// A flood of packets that look like a stranger's first: answered as far as the
// budget goes, while those we know are heard.
func TestFlood(t *testing.T) {
	t.Parallel()
	friend := listen(t, 1, shards(16, 1), at(2))
	s := listen(t, 2, shards(16, 1), boot(friend), discv5.WithLimits(func(l *discv5.Limits) { l.PerStranger = 1 }))
	find(t, s, friend)
	stranger := newRaw(t, loopback, discv5.ProtocolID)
	id, to := enode.ID(s.Record().NodeID()), net.UDPAddrFromAddrPort(s.Addr())
	const flood = 2000
	before := s.Stats()
	for i := range flood {
		stranger.send(id, to, &v5wire.Ping{ReqID: []byte{1}}, nil)
		if i%50 == 0 {
			p2ptest.Eventually(t, func() bool { return s.Stats().In >= before.In+uint64(i) }, "read")
		}
	}
	stranger.start()
	st := s.Stats()
	require.Less(t, st.Out-before.Out, uint64(200))
	require.Greater(t, st.Dropped["strangers"], uint64(flood-250))
	_, err := s.Resolve(within(t, soon), friend.Record())
	require.NoError(t, err)
}
