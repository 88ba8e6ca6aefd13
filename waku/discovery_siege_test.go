package waku_test

import (
	"bytes"
	crand "crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/dnsdisc/dnstest"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/relay"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// Identities from firstSybil on are an attacker's.
const firstSybil = 100_000

// at is the n-th of many networks.
func at(n int) netip.Addr { return netip.AddrFrom4([4]byte{byte(30 + n%60), byte(n / 60), 7, 1}) }

// rubbish is the i-th of many records that are of no use, each for another reason.
func rubbish(t testing.TB, i int) []byte {
	key := p2ptest.Key(firstSybil + i)
	f := enr.Fields{Seq: uint64(i + 1), IP4: at(i % 8000), TCP: 60000, Capabilities: enr.Relay}
	set := func(cluster uint16) {
		s, err := sharding.NewSet(cluster, town.Index)
		require.NoError(t, err)
		f.Shards = s
	}
	set(town.Cluster)
	spoil := func([]byte) {}
	switch i % 8 {
	case 0: // signed by somebody else
		spoil = func(b []byte) { b[20] ^= 1 }
	case 1:
		set(99)
	case 2: // on the victim's LAN
		f.IP4 = netip.AddrFrom4([4]byte{192, 168, 1, byte(i)})
	case 3: // what never dies
		f.Seq = 1<<64 - 1
		f.IP4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case 4: // no address at all
		f.IP4, f.TCP = netip.Addr{}, 0
	case 5: // all at one address
		f.IP4 = netip.AddrFrom4([4]byte{66, 1, 1, 1})
	case 6: // not a record
		return bytes.Repeat([]byte{0xc0 | byte(i)}, 1+i%299)
	case 7: // too large
		return append([]byte{0xf9, 0x02, 0x00}, make([]byte, 512)...)
	}
	r, err := enr.Build(key, f)
	require.NoError(t, err)
	b := r.Bytes()
	spoil(b)
	return b
}

// answers answers questions of peer exchange with whatever there is, however much it is.
func answers(h host.Host, answer func(question int) [][]byte) {
	var questions atomic.Int64
	h.SetStreamHandler(peerexchange.ID, func(s network.Stream) {
		defer s.Close()
		_, _ = s.Read(make([]byte, 64))
		var body []byte
		for _, raw := range answer(int(questions.Add(1)) - 1) {
			info := append(binary.AppendUvarint([]byte{0x0a}, uint64(len(raw))), raw...)
			body = append(binary.AppendUvarint(append(body, 0x0a), uint64(len(info))), info...)
		}
		body = append(body, 0x50, 0xc8, 0x01) // 200
		rpc := append(binary.AppendUvarint([]byte{0x12}, uint64(len(body))), body...)
		_, _ = s.Write(append(binary.AppendUvarint(nil, uint64(len(rpc))), rpc...))
	})
}

// extra is a cheap relaying member on a host of its own.
func extra(t *testing.T, net *p2ptest.Network, key int, ip netip.Addr) (host.Host, *enr.Record) {
	h := net.Host(p2ptest.HostConfig{Key: p2ptest.Key(key), IP: ip, Port: 60000})
	answerMetadata(h)
	raw := p2ptest.NewRawPubsub(t, h)
	t.Cleanup(raw.Close)
	return h, recordOf(t, key, enr.Fields{IP4: ip, TCP: 60000})
}

// cpu is what the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Ten thousand records of no use, however they come, cost little and hide none of the
// few good ones; what is refused is counted.
func TestTenThousandBadRecords(t *testing.T) {
	many, good := 10_000, 20
	if testing.Short() {
		many = 100
	}
	var bad [][]byte
	for i := range many {
		bad = append(bad, rubbish(t, i))
	}
	var records []*enr.Record
	for i := range good {
		records = append(records, recordOf(t, 500+i, enr.Fields{IP4: at(7000 + i), TCP: 60000}))
	}
	// One of several hundred is true.
	said := func(from, count int) (out [][]byte) {
		for i := range count {
			k := from + i
			if k >= len(bad) {
				break
			}
			out = append(out, bad[k])
			if every := len(bad) / good; k%every == every-1 && k/every < good {
				out = append(out, records[k/every].Bytes())
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		begin func(t *testing.T, net *p2ptest.Network) []waku.Option
		then  func(n *waku.Node)
	}{
		"discv5": {then: func(n *waku.Node) {
			for _, raw := range said(0, many) {
				waku.FoundByDiscv5(n, raw)
			}
		}},
		"peer exchange": {begin: func(t *testing.T, net *p2ptest.Network) []waku.Option {
			h, _ := extra(t, net, 400, at(6000))
			answers(h, func(question int) [][]byte { return said(question*19, 19) })
			return []waku.Option{waku.WithStaticPeers(p2pAddr(h))}
		}},
		"DNS": {begin: func(t *testing.T, net *p2ptest.Network) []waku.Option {
			key, _, err := crypto.GenerateSecp256k1Key(crand.Reader)
			require.NoError(t, err)
			content := dnstest.Content{Seq: 1}
			for _, raw := range said(0, many) {
				if len(raw) < 330 {
					content.Leaves = append(content.Leaves, "enr:"+base64.RawURLEncoding.EncodeToString(raw))
				}
			}
			list, err := dnstest.Publish(key, "nodes.example.org", content)
			require.NoError(t, err)
			return []waku.Option{waku.WithDNSTrees(list.URL), waku.WithResolvers(dnstest.NewZone(list))}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				net := p2ptest.New(t, p2ptest.Config{})
				opts := []waku.Option{waku.WithHost(apart(net)), waku.WithNetwork(world), waku.WithoutDiscv5()}
				if c.begin != nil {
					opts = append(opts, c.begin(t, net)...)
				}
				n := start(t, opts...)
				began := cpu()
				join(t, n, waku.Community{Shard: town})
				if c.then != nil {
					c.then(n)
				}
				time.Sleep(time.Minute + time.Duration(many)*120*time.Millisecond) // virtual
				spent := cpu() - began
				d := n.Health().Discovery
				sum, known := uint64(0), 0
				for _, count := range d.Refused {
					sum += count
				}
				for _, r := range records {
					if waku.Knows(n, r.PeerID()) {
						known++
					}
				}
				t.Logf("%v of CPU for %d records, %d refused: %v", spent, many, sum, d.Refused)
				if name == "DNS" { // a source has half of the book at most
					require.GreaterOrEqual(t, known, good/2, "%+v", d)
				} else {
					require.Equal(t, good, known, "%+v", d)
				}
				require.GreaterOrEqual(t, sum, uint64(many*8/10))
			})
		})
	}
}

// An answer of a million peers costs as much as one of the longest that is read, and
// the one who gives it isn't asked all the time.
func TestAMillionPeers(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		net := p2ptest.New(t, p2ptest.Config{})
		raw := recordOf(t, firstSybil, enr.Fields{IP4: at(1), TCP: 60000}).Bytes()
		many := 1_000_000
		if testing.Short() {
			many = 10_000
		}
		million := make([][]byte, many)
		for i := range million {
			million[i] = raw
		}
		h, _ := extra(t, net, 400, at(6000))
		var asked atomic.Int64
		answers(h, func(int) [][]byte { asked.Add(1); return million })
		nodes := fleet(t, net, 3)
		n := start(t, waku.WithHost(apart(net)), waku.WithStaticPeers(p2pAddr(h)), waku.WithBootnodes(records(nodes...)...), waku.WithoutDiscv5())
		join(t, n, waku.Community{Shard: town})
		time.Sleep(30 * time.Second) // virtual
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		time.Sleep(2 * time.Minute) // virtual
		runtime.GC()
		runtime.ReadMemStats(&after)
		require.NotZero(t, asked.Load())
		t.Logf("asked %d times in 150 s, the heap grew by %d KiB, %v", asked.Load(), (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10, n.Health().Discovery.Sources)
		require.Len(t, n.Peers(), 4)
	})
}

// Nine of ten records are an attacker's, who lives in many networks and is always there.
// Whichever way they come, and though they come first, he doesn't get all the peers that
// the node chooses.
func TestEclipse(t *testing.T) {
	const honest, hostile = 12, 108
	type crowd struct {
		net     *p2ptest.Network
		honest  []*enr.Record
		hostile []*enr.Record
	}
	raws := func(of []*enr.Record) (out [][]byte) {
		for _, r := range of {
			out = append(out, r.Bytes())
		}
		return out
	}
	window := func(of [][]byte, question int) (out [][]byte) {
		for i := range 20 {
			out = append(out, of[(question*20+i)%len(of)])
		}
		return out
	}
	for name, begin := range map[string]func(t *testing.T, c crowd) (opts []waku.Option, then func(n *waku.Node)){
		"one of two that serve peer exchange": func(t *testing.T, c crowd) ([]waku.Option, func(n *waku.Node)) {
			good, _ := extra(t, c.net, 401, at(6001))
			evil, _ := extra(t, c.net, firstSybil+5000, at(6002))
			answers(good, func(q int) [][]byte { return window(raws(c.honest), q) })
			answers(evil, func(q int) [][]byte { return window(raws(c.hostile), q) })
			return []waku.Option{waku.WithStaticPeers(p2pAddr(good), p2pAddr(evil))}, nil
		},
		"discv5, beside a list": func(t *testing.T, c crowd) ([]waku.Option, func(n *waku.Node)) {
			list := treeOf(t, 1, c.honest)
			return []waku.Option{waku.WithDNSTrees(list.URL), waku.WithResolvers(dnstest.NewZone(list))}, func(n *waku.Node) {
				for _, r := range c.hostile {
					waku.FoundByDiscv5(n, r.Bytes())
				}
			}
		},
		"discv5, beside peer exchange": func(t *testing.T, c crowd) ([]waku.Option, func(n *waku.Node)) {
			good, _ := extra(t, c.net, 401, at(6001))
			answers(good, func(q int) [][]byte { return window(raws(c.honest), q) })
			return []waku.Option{waku.WithStaticPeers(p2pAddr(good))}, func(n *waku.Node) {
				for _, r := range c.hostile {
					waku.FoundByDiscv5(n, r.Bytes())
				}
			}
		},
		"one list of two": func(t *testing.T, c crowd) ([]waku.Option, func(n *waku.Node)) {
			good, evil := treeOf(t, 1, c.honest), treeOf(t, 1, c.hostile, "evil.example.org")
			return []waku.Option{waku.WithDNSTrees(evil.URL, good.URL), waku.WithResolvers(dnstest.NewZone(good, evil))}, nil
		},
	} {
		if testing.Short() && name != "one of two that serve peer exchange" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				c := crowd{net: p2ptest.New(t, p2ptest.Config{})}
				friends := map[peer.ID]bool{}
				for i := range honest {
					h, r := extra(t, c.net, 500+i, at(4000+i))
					c.honest = append(c.honest, r)
					friends[h.ID()] = true
				}
				for i := range hostile {
					_, r := extra(t, c.net, firstSybil+i, at(i))
					c.hostile = append(c.hostile, r)
				}
				opts, then := begin(t, c)
				n := start(t, append(opts, waku.WithHost(apart(c.net)), waku.WithNetwork(world), waku.WithoutDiscv5())...)
				if then != nil {
					then(n)
				}
				join(t, n, waku.Community{Shard: town})
				tally := func() (good, all int) {
					for _, p := range n.Peers() {
						if p.Inbound || p.Static {
							continue
						}
						all++
						if friends[p.ID] {
							good++
						}
					}
					return good, all
				}
				later := time.Hour
				if testing.Short() {
					later = time.Minute
				}
				for _, after := range []time.Duration{30 * time.Second, 10 * time.Minute, later} {
					time.Sleep(after) // virtual
					good, all := tally()
					t.Logf("after %v: %d of %d are honest", after, good, all)
					least := all * 2 / 5
					if after < time.Minute {
						least = all / 3
					}
					require.GreaterOrEqual(t, good, least, "%+v", n.Health().Discovery)
					require.GreaterOrEqual(t, all, relay.Classic().D)
				}
			})
		})
	}
}
