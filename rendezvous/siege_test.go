package rendezvous_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/rendezvous"
)

func TestLengthBombs(t *testing.T) {
	couple(t, func(t *testing.T, attacker, server host.Host) {
		p := serve(t, server, rendezvous.PointConfig{})
		require.Less(t, p2ptest.ThrowBombs(t, attacker, server, rendezvous.ID, 1000), int64(16<<20))
		synctest.Wait()
		require.NotZero(t, p.Stats().Failed)
		time.Sleep(time.Minute) // the attacker has used up what is his
		_, err := client(attacker).Discover(t.Context(), server.ID(), ns, 1, rendezvous.Cookie{})
		require.NoError(t, err)
	})
}

// Slow senders and silent ones are gone in time, and keep nobody out.
func TestSlowSenders(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const each = 8
		attackers := 63 // with all their streams, as many as there may be but one
		if testing.Short() || raceEnabled {
			attackers = 12
		}
		hosts := p2ptest.Hosts(t, attackers+2)
		p2ptest.Star(t, hosts)
		server, honest := hosts[0], hosts[1]
		p := serve(t, server, rendezvous.PointConfig{})
		synctest.Wait()
		before := p2ptest.Goroutines()
		request := append([]byte{200, 1}, registerRequest(ns, nil, 7200)...)
		var wg sync.WaitGroup
		start := time.Now()
		for _, a := range hosts[2:] {
			for i := range each * 4 { // three in four are refused at once
				st, err := p2ptest.OpenStream(t.Context(), a, server.ID(), rendezvous.ID)
				if err != nil {
					continue
				}
				wg.Go(func() {
					defer st.Reset()
					if i%2 == 0 {
						_, err := st.Read(make([]byte, 1))
						assert.Error(t, err)
						return
					}
					p2ptest.Drip(st, request, 3*time.Second)
				})
			}
		}
		synctest.Wait()
		_, err := client(honest).Discover(t.Context(), server.ID(), ns, 1, rendezvous.Cookie{})
		require.NoError(t, err)
		wg.Wait()
		require.LessOrEqual(t, time.Since(start), 13*time.Second) // the last drop notices
		synctest.Wait()
		require.Equal(t, uint64(attackers*each*4), p.Stats().Failed)
		require.InDelta(t, before, p2ptest.Goroutines(), float64(before)/20)
	})
}

var numbers = []uint64{
	0, 1, 2, 59, 60, 61, 119, 120, 7199, 7200, 259199, 259200, 259201, 999, 1000, 1001,
	1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 34, 1<<54 + 7200, 1 << 62, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2, 1<<64 - 1,
}

// Any number anywhere is answered, or the stream ends.
func TestNumbersAtTheirEnds(t *testing.T) {
	couple(t, func(t *testing.T, c, server host.Host) {
		p := serve(t, server, free)
		cases := 0
		for _, v := range numbers {
			// A time to live.
			b, err := ask(t, c, server, registerRequest(ns, record(0), v))
			require.NoError(t, err)
			got, _ := status(t, b)
			require.Equal(t, v == 0 || v >= 60 && v <= 72*3600, got == 0, "ttl %d", v)
			// A limit.
			b, err = ask(t, c, server, discoverRequest(ns, v, nil))
			require.NoError(t, err)
			got, _ = status(t, b)
			require.Zero(t, got, "limit %d", v)
			// A number in a cookie that isn't the point's.
			b, err = ask(t, c, server, discoverRequest(ns, 1, binary.BigEndian.AppendUint64(make([]byte, 16), v)))
			require.NoError(t, err)
			got, _ = status(t, b)
			require.Equal(t, rendezvous.StatusInvalidCookie, got)
			// A shard and a cluster.
			b, err = ask(t, c, server, registerRequest(fmt.Sprintf("rs/16/%d", v), record(0), 7200))
			require.NoError(t, err)
			got, _ = status(t, b)
			require.Equal(t, v < 1024, got == 0, "shard %d", v)
			b, err = ask(t, c, server, registerRequest(fmt.Sprintf("rs/%d/1", v), record(0), 7200))
			require.NoError(t, err)
			got, _ = status(t, b)
			require.Equal(t, v < 1<<16, got == 0, "cluster %d", v)
			// A type: one that is no request gets nothing.
			b, err = ask(t, c, server, append(varint(1, v), lengthed(5, nil)...))
			require.Equal(t, v == 3, err == nil && b != nil, "type %d", v)
			cases += 6
			// Responses.
			for _, m := range [][]byte{
				lengthed(3, varint(1, v)), lengthed(3, varint(3, v)), lengthed(3, varint(99, v)), varint(6, v),
			} {
				answerBy(c, func([]byte) []byte { return append(varint(1, 1), m...) })
				granted, err := client(server).Register(t.Context(), c.ID(), ns, server.Addrs(), 0)
				require.LessOrEqual(t, granted, rendezvous.MaxTTL)
				require.Equal(t, err == nil, granted > 0)
				cases++
			}
			for _, m := range [][]byte{
				lengthed(6, lengthed(1, append(lengthed(1, []byte(ns)), append(lengthed(2, record(5)), varint(3, v)...)...))),
				lengthed(6, varint(3, v)), lengthed(6, varint(2, v)), lengthed(6, varint(1, v)),
			} {
				answerBy(c, func([]byte) []byte { return append(varint(1, 4), m...) })
				a, err := client(server).Discover(t.Context(), c.ID(), ns, 5, rendezvous.Cookie{})
				for _, f := range a.Peers {
					require.NoError(t, err)
					require.LessOrEqual(t, f.TTL, rendezvous.MaxTTL)
					require.Positive(t, f.TTL)
				}
				cases++
			}
			// A record's own number is anything.
			_, seq, wrong := rendezvous.OpenRecord(envelope(5, "libp2p-peer-record", recordType, payload(idOf(5), v, addrs("/ip4/1.2.3.4/tcp/1")[0].Bytes())))
			require.Empty(t, wrong)
			require.Equal(t, v, seq)
			cases++
		}
		require.GreaterOrEqual(t, cases, 300)
		require.LessOrEqual(t, p.Stats().Registrations, rendezvous.DefaultMaxPerPeer)
	})
}

// What is oddly built is read as others read it, or refused.
func TestHostileStructure(t *testing.T) {
	many := func(field string, n int) []byte { return bytes.Repeat(unhex(field), n) }
	good := registerRequest(ns, record(0), 7200)
	body := good[2:]
	nested := append(bytes.Repeat([]byte{0x9b, 6}, 200), bytes.Repeat([]byte{0x9c, 6}, 200)...)
	plus := func(b ...[]byte) []byte { return slices.Concat(b...) }
	couple(t, func(t *testing.T, c, server host.Host) {
		p := serve(t, server, free)
		failed := uint64(0)
		for name, r := range map[string]struct {
			request []byte
			code    int // -1: the stream ends
		}{
			"no type is a registration":    {body, 0},
			"many bodies, the last counts": {plus(many("08001200", 500), body), 0},
			"a bad body last":              {plus(good, unhex("1200")), 100},
			"unknown fields":               {plus(good, many("c83e01", 1000)), 0},
			"nested groups":                {plus(good, nested), 0},
			"groups without an end":        {plus(good, many("9b06", 1000)), -1},
			"a length beyond the end":      {plus(good, unhex("1a7f")), -1},
			"field 0":                      {plus(good, unhex("0000")), -1},
			"an overlong number":           {unhex("08ffffffffffffffffffff01"), -1},
			"text":                         {[]byte("GET / HTTP/1.1\r\n\r\n"), -1},
			"zeros":                        {make([]byte, 1000), -1},
			"nothing":                      {nil, -1},
			"a response":                   {unhex("0801 1a020800"), -1},
			"a body that is a number":      {unhex("0800 1001"), -1},
			"a record that is a number":    {unhex("0800 1202 1001"), -1},
			"discover without a body":      {unhex("0803"), 0},
			"discover an empty namespace":  {unhex("0803 2a020a00"), 0},
			"10,000 namespaces":            {plus(unhex("0803"), lengthed(5, plus(many("0a00", 2000), lengthed(1, []byte(ns))))), 0},
		} {
			b, err := ask(t, c, server, r.request)
			if r.code < 0 {
				require.Error(t, err, name)
				failed++
				continue
			}
			require.NoError(t, err, name)
			got, _ := status(t, b)
			require.Equal(t, rendezvous.StatusCode(r.code), got, name)
		}
		synctest.Wait()
		require.Equal(t, failed, p.Stats().Failed)
	})
}

// A stream may end in the middle of anything.
func TestHalfRequests(t *testing.T) {
	frame := wire.AppendFrame(nil, discoverRequest(ns, 3, []byte("cookie")))
	couple(t, func(t *testing.T, c, server host.Host) {
		p := serve(t, server, free)
		for n := range len(frame) {
			st, err := p2ptest.OpenStream(t.Context(), c, server.ID(), rendezvous.ID)
			require.NoError(t, err)
			st.Write(frame[:n])
			require.NoError(t, st.CloseWrite())
			b, _ := io.ReadAll(st)
			require.Empty(t, b)
			st.Reset()
		}
		synctest.Wait()
		require.Equal(t, uint64(len(frame)), p.Stats().Failed)
	})
}

// An answer isn't held for one who doesn't read it.
func TestAnswerNotRead(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		server := hosts[0]
		p := serve(t, server, free)
		for i := range 1000 {
			p.Put(peer.ID(fmt.Sprint(i)), ns, fmt.Sprint(i), make([]byte, rendezvous.MaxRecord), time.Hour)
		}
		for range 8 {
			st, err := p2ptest.OpenStream(t.Context(), hosts[1], server.ID(), rendezvous.ID)
			require.NoError(t, err)
			defer st.Reset()
			require.NoError(t, wire.WriteFrame(st, discoverRequest(ns, 1000, nil)))
		}
		synctest.Wait()
		b, err := ask(t, hosts[2], server, discoverRequest(ns, 1000, nil))
		require.NoError(t, err)
		require.LessOrEqual(t, len(b), rendezvous.MaxAnswer+200)
		time.Sleep(10*time.Second + time.Millisecond)
		_, err = client(hosts[1]).Discover(t.Context(), server.ID(), ns, 1, rendezvous.Cookie{})
		require.NoError(t, err)
	})
}

// One peer gets no further than its limit, with ten thousand namespaces.
func TestManyNamespaces(t *testing.T) {
	couple(t, func(t *testing.T, c, server host.Host) {
		p := serve(t, server, rendezvous.PointConfig{})
		codes := map[rendezvous.StatusCode]int{}
		r := record(0)
		for i := range 500 {
			b, err := ask(t, c, server, registerRequest(fmt.Sprintf("rs/16/%d", i), r, 7200))
			require.NoError(t, err)
			got, _ := status(t, b)
			codes[got]++
			time.Sleep(time.Second / 2)
		}
		require.Equal(t, map[rendezvous.StatusCode]int{0: rendezvous.DefaultMaxPerPeer, 400: 500 - rendezvous.DefaultMaxPerPeer}, codes)
		for i := range 9500 {
			require.False(t, p.Put(c.ID(), fmt.Sprintf("rs/%d/%d", 17+i/1000, i%1000), "a", r, time.Hour))
		}
		s := p.Stats()
		require.Equal(t, rendezvous.DefaultMaxPerPeer, s.Registrations)
		require.Equal(t, len(r), s.RecordBytes, "kept once")
	})
}

// A million registrations take no more than a full table, and cost each as much.
func TestMillion(t *testing.T) {
	n := 1_000_000
	if raceEnabled || testing.Short() {
		n = 40_000
	}
	couple(t, func(t *testing.T, _, server host.Host) {
		p := serve(t, server, rendezvous.PointConfig{})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		big := make([]byte, rendezvous.MaxRecord)
		for i := range n {
			var id, addr [8]byte
			binary.BigEndian.PutUint64(id[:], uint64(i))
			binary.BigEndian.PutUint64(addr[:], uint64(i*7919%n/3))
			p.Afford(peer.ID(id[:]), string(addr[:]))
			if i < n/20 { // while there is room, as large as may be
				copy(big, id[:])
				p.Put(peer.ID(id[:]), fmt.Sprintf("rs/%d/%d", i%65536, i%1024), string(addr[:]), big, time.Hour)
			} else {
				p.Put(peer.ID(id[:]), ns, string(addr[:]), big[:64], time.Hour)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		t.Logf("%d registrations, heap + %.1f MiB", p.Stats().Registrations, float64(grown)/(1<<20))
		require.LessOrEqual(t, grown, int64(64<<20))
		require.GreaterOrEqual(t, p.Stats().Registrations, rendezvous.DefaultMaxRegistrations/2)
		require.Empty(t, p.Check())
		runtime.KeepAlive(p)
	})
}

// A flood from few addresses displaces nobody who was there, keeps nobody out, and is
// shown no more often than others.
func TestFlood(t *testing.T) {
	couple(t, func(t *testing.T, _, server host.Host) {
		cfg := free
		cfg.MaxRegistrations, cfg.MaxPerAddress = 1000, 400
		p := serve(t, server, cfg)
		put := func(who string, i int, addr string) bool {
			return p.Put(peer.ID(fmt.Sprint(who, i)), ns, addr, []byte{1}, time.Hour)
		}
		for i := range 100 {
			require.True(t, put("early", i, fmt.Sprint("home", i/2)))
		}
		for i := range 10_000 {
			put("flood", i, fmt.Sprint("hired", i%3))
		}
		require.Equal(t, 1000, p.Stats().Registrations)
		for i := range 100 {
			require.True(t, put("late", i, fmt.Sprint("home", 1000+i/2)), i)
		}
		sample := p.Sample(ns, 1000)
		of := map[byte]int{}
		for _, id := range sample {
			of[id[0]]++
		}
		require.Equal(t, map[byte]int{'e': 100, 'l': 100, 'f': 800}, of)
		clear(of)
		for range 1000 {
			for _, id := range p.Sample(ns, 12) {
				of[id[0]]++
			}
		}
		require.InDelta(t, 12_000*3/103, of['f'], 120, "3 addresses of 103")
		require.Equal(t, 12_000, of['e']+of['l']+of['f'])

		// With fewer addresses than are wanted, each has its share of the rest.
		clear(of)
		for _, id := range p.Sample(ns, 206) {
			of[id[0]]++
		}
		require.Equal(t, map[byte]int{'e': 100, 'l': 100, 'f': 6}, of)
	})
}

// Whatever happens, in whatever order: the table stays one picture, and within its
// bounds.
func TestTableModel(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		h := p2ptest.Hosts(t, 1)[0]
		cfg := free
		cfg.MaxRegistrations, cfg.MaxPerAddress, cfg.MaxPerPeer = 40, 12, 4
		p := serve(t, h, cfg)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 20_000 {
			id := peer.ID(fmt.Sprint(rng.IntN(60)))
			p.Put(id, fmt.Sprint("rs/1/", rng.IntN(6)), fmt.Sprint(rng.IntN(8)), []byte{byte(rng.IntN(3))}, time.Duration(1+rng.IntN(200))*time.Second)
			if rng.IntN(4) == 0 {
				time.Sleep(time.Second)
			}
			if rng.IntN(50) == 0 {
				require.Empty(t, p.Check())
				all := p.Sample("rs/1/1", 100)
				slices.Sort(all)
				require.Len(t, slices.Compact(slices.Clone(all)), len(all), "nobody twice")
			}
		}
	})
}

// Streams beyond what one peer may have are refused unread.
func TestPerPeer(t *testing.T) {
	couple(t, func(t *testing.T, c, server host.Host) {
		p := serve(t, server, rendezvous.PointConfig{})
		var all []network.Stream
		for range 20 {
			if st, err := p2ptest.OpenStream(t.Context(), c, server.ID(), rendezvous.ID); err == nil {
				all = append(all, st)
			}
		}
		synctest.Wait()
		require.Equal(t, uint64(12), p.Stats().Failed)
		for _, st := range all {
			st.Reset()
		}
	})
}
