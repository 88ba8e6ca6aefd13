package peerexchange_test

import (
	"bytes"
	"io"
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
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/peerexchange"
)

func TestLengthBombs(t *testing.T) {
	couple(t, func(t *testing.T, attacker, server host.Host) {
		s := serve(t, server, from(records(100, 60)...), peerexchange.ServerConfig{})
		require.Less(t, p2ptest.ThrowBombs(t, attacker, server, peerexchange.ID, 1000), int64(16<<20))
		synctest.Wait()
		require.NotZero(t, s.Stats().Failed)
		time.Sleep(10 * time.Second) // the attacker has used up what is his
		_, err := peerexchange.NewClient(attacker, fast).Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
	})
}

// Slow senders and silent ones are gone in time, and keep nobody out.
func TestSlowSenders(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const each = 16
		attackers := 125
		if testing.Short() || raceEnabled {
			attackers = 16
		}
		hosts := p2ptest.Hosts(t, attackers+2)
		p2ptest.Star(t, hosts)
		server, honest := hosts[0], hosts[1]
		s := serve(t, server, from(records(100, 20)...), peerexchange.ServerConfig{})
		synctest.Wait()
		before := p2ptest.Goroutines()
		request := append([]byte{100}, unhex("0a020814")...)
		var wg sync.WaitGroup
		began := time.Now()
		for _, a := range hosts[2:] {
			for i := range each {
				st, err := p2ptest.OpenStream(t.Context(), a, server.ID(), peerexchange.ID)
				if err != nil {
					continue
				}
				wg.Go(func() {
					defer st.Reset()
					if i < 4 {
						_, err := st.Read(make([]byte, 1))
						assert.Error(t, err)
						return
					}
					p2ptest.Drip(st, request, 3*time.Second)
				})
			}
		}
		synctest.Wait()
		_, err := peerexchange.NewClient(honest, fast).Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
		wg.Wait()
		require.LessOrEqual(t, time.Since(began), 12*time.Second)
		synctest.Wait()
		require.Equal(t, uint64(attackers*each), s.Stats().Failed)
		require.InDelta(t, before, p2ptest.Goroutines(), float64(before)/20)
	})
}

// Beyond what one peer may have at once, streams are refused unread.
func TestPerPeer(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, from(record(100)), peerexchange.ServerConfig{})
		var streams []network.Stream
		for range 20 {
			st, err := p2ptest.OpenStream(t.Context(), client, server.ID(), peerexchange.ID)
			if err == nil {
				streams = append(streams, st)
			}
		}
		synctest.Wait()
		require.Equal(t, uint64(12), s.Stats().Failed)
		for _, st := range streams {
			st.Reset()
		}
		synctest.Wait()
		_, err := peerexchange.NewClient(client, fast).Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
	})
}

var numbers = []uint64{
	0, 1, 2, 5, 59, 60, 61, 127, 128, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32,
	1 << 62, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2, 1<<64 - 1,
}

// Any number anywhere is answered.
func TestNumbersAtTheirEnds(t *testing.T) {
	all := records(100, 60)
	couple(t, func(t *testing.T, client, server host.Host) {
		asked := 0
		serve(t, server, func(_ peer.ID, n int) [][]byte {
			asked = n
			return all[:n]
		}, peerexchange.ServerConfig{Rate: -1})
		cases := 0
		for _, v := range numbers {
			want := int(min(v, 60))
			if v == 0 {
				want = 5
			}
			// How many are asked for, with a field of others' making behind it.
			for _, f := range []protowire.Number{2, 3, 10, 11, 15, 16, 100, 1<<29 - 1} {
				query := append(varint(1, v), varint(f, v)...)
				r := parse(t, ask(t, client, server, append(lengthed(1, query), varint(f+1, v)...)))
				require.Equal(t, uint64(200), r.code, "%d", v)
				require.Equal(t, want, asked)
				require.Len(t, r.peers, want)
				cases++
			}
			// Known fields of the wrong kind; of the response nothing is read.
			require.Contains(t, parse(t, ask(t, client, server, varint(1, v))).desc, "BAD_REQUEST: malformed: query")
			require.Equal(t, uint64(200), parse(t, ask(t, client, server, append(unhex("0a020814"), varint(2, v)...))).code)
			cases += 2
		}
		// Numbers of answers, in a response and in a record.
		for _, v := range numbers {
			for _, f := range []protowire.Number{1, 2, 9, 10, 11, 12, 100, 1<<29 - 1} {
				b := lengthed(2, append(lengthed(1, lengthed(1, []byte("a record"))), varint(f, v)...))
				answerBy(client, func([]byte) []byte { return b })
				_, err := peerexchange.NewClient(server, fast).Ask(t.Context(), client.ID(), 20)
				switch {
				case f == 1 || f == 11:
					require.ErrorIs(t, err, peerexchange.ErrMalformed)
				case f == 10 && v != 0:
					var status *peerexchange.StatusError
					require.ErrorAs(t, err, &status)
				default:
					require.NoError(t, err, "field %d: %d", f, v)
				}
				cases++
			}
			seq := bytes.TrimLeft([]byte{byte(v >> 56), byte(v >> 48), byte(v >> 40), byte(v >> 32), byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}, "\x00")
			got := peerexchange.Check(peerexchange.Response{Records: [][]byte{forgeSeq(7, rlp(seq), idPair(), ipPair(), keyPair(7), tcpPair())}}, 1, "me")
			require.Equal(t, v, got.Peers[0].Seq)
			// Ports have 16 bits.
			got = peerexchange.Check(peerexchange.Response{Records: [][]byte{forge(7, idPair(), ipPair(), keyPair(7), pair("tcp", seq))}}, 1, "me")
			require.Equal(t, v > 0 && v < 1<<16, len(got.Peers) == 1, "port %d", v)
			cases += 2
		}
		require.GreaterOrEqual(t, cases, 300)
	})
}

// What is oddly built is read as others read it, or refused in words.
func TestHostileStructure(t *testing.T) {
	many := func(field string, n int) []byte { return bytes.Repeat(unhex(field), n) }
	query := unhex("0a020814")
	nested := append(bytes.Repeat([]byte{0x1b}, 200), bytes.Repeat([]byte{0x1c}, 200)...)
	couple(t, func(t *testing.T, client, server host.Host) {
		var told []error
		s := serve(t, server, from(records(100, 60)...), peerexchange.ServerConfig{
			Rate:      -1,
			OnFailure: func(_ peer.ID, err error) { told = append(told, err) },
		})
		for name, c := range map[string]struct {
			request []byte
			words   string // "": an answer
		}{
			"250 queries":                {many("0a020814", 250), ""},
			"250 queries, the last bad":  {append(many("0a020814", 250), unhex("0a0108")...), "BAD_REQUEST: malformed"},
			"300 unknown fields":         {append(slices.Clone(query), many("c83e01", 300)...), ""},
			"400 empty responses":        {append(slices.Clone(query), many("1200", 400)...), ""},
			"nested groups":              {append(slices.Clone(query), nested...), ""},
			"groups without an end":      {append(slices.Clone(query), many("1b", 1000)...), "BAD_REQUEST: malformed"},
			"an end without a beginning": {append(slices.Clone(query), 0x1c), "BAD_REQUEST: malformed"},
			"field 0":                    {append(slices.Clone(query), 0, 0), "BAD_REQUEST: malformed"},
			"a length beyond the end":    {append(slices.Clone(query), 0x1a, 0x7f), "BAD_REQUEST: malformed"},
			"an overlong number":         {unhex("0a0c 08ffffffffffffffffffff01"), "BAD_REQUEST: malformed"},
			"a query in a query":         {unhex("0a04 0a020814"), "BAD_REQUEST: malformed: num_peers is no number"},
			"text":                       {[]byte("GET / HTTP/1.1\r\n\r\n"), "BAD_REQUEST: malformed"},
			"zeros":                      {make([]byte, 1000), "BAD_REQUEST: malformed"},
			"fixed numbers":              {unhex("0d14000000"), "BAD_REQUEST: malformed: query has no length"},
		} {
			r := parse(t, ask(t, client, server, c.request))
			if c.words == "" {
				require.Len(t, r.peers, 20, name)
			} else {
				require.Contains(t, r.desc, c.words, name)
			}
			require.Less(t, len(r.desc), 200)
		}
		require.Empty(t, told, "a stranger's mistakes are his own")
		require.Zero(t, s.Stats().Failed)
	})
}

// Requests that are too long cost as much as others.
func TestLongRequestsAreCounted(t *testing.T) {
	couple(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, from(record(100)), peerexchange.ServerConfig{})
		const n = 50
		answered := 0
		for range n {
			st, err := p2ptest.OpenStream(t.Context(), client, server.ID(), peerexchange.ID)
			require.NoError(t, err)
			if wire.WriteFrame(st, make([]byte, 500_000)) == nil && st.CloseWrite() == nil {
				if b, err := wire.ReadFrame(st, 1000); err == nil {
					require.Contains(t, parse(t, b).desc, "BAD_REQUEST: wire: frame of 500000 bytes")
					answered++
				}
			}
			st.Reset()
			synctest.Wait()
		}
		require.Equal(t, peerexchange.DefaultServerBurst, answered)
		require.Equal(t, uint64(answered), s.Stats().Answers[400])
		require.Equal(t, uint64(n), s.Stats().Failed)
	})
}

// An answer isn't held for one who doesn't read it.
func TestAnswerNotRead(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 3)
		p2ptest.Star(t, hosts)
		server, attacker := hosts[0], hosts[1]
		s := serve(t, server, from(records(100, 60)...), peerexchange.ServerConfig{Rate: -1})
		for range 8 {
			st, err := p2ptest.OpenStream(t.Context(), attacker, server.ID(), peerexchange.ID)
			require.NoError(t, err)
			defer st.Reset()
			require.NoError(t, wire.WriteFrame(st, unhex("0a02083c")))
		}
		synctest.Wait()
		require.Equal(t, map[peerexchange.StatusCode]uint64{200: 8}, s.Stats().Answers)
		_, err := peerexchange.NewClient(hosts[2], fast).Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
		_, err = peerexchange.NewClient(attacker, fast).Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
	})
}

// A stream may end in the middle of anything.
func TestHalfRequests(t *testing.T) {
	frame := wire.AppendFrame(nil, unhex("0a020814 12025000"))
	couple(t, func(t *testing.T, client, server host.Host) {
		s := serve(t, server, from(record(100)), peerexchange.ServerConfig{Rate: -1})
		for n := range len(frame) {
			st, err := p2ptest.OpenStream(t.Context(), client, server.ID(), peerexchange.ID)
			require.NoError(t, err)
			st.Write(frame[:n])
			require.NoError(t, st.CloseWrite())
			b, _ := io.ReadAll(st)
			require.Empty(t, b)
			st.Reset()
		}
		synctest.Wait()
		require.Equal(t, uint64(len(frame)), s.Stats().Failed)
		require.Empty(t, s.Stats().Answers)
	})
}

// An answer may, too; and it may come a byte at a time.
func TestHalfAnswers(t *testing.T) {
	frame := wire.AppendFrame(nil, answer(record(100)))
	couple(t, func(t *testing.T, client, server host.Host) {
		n := 0
		server.SetStreamHandler(peerexchange.ID, func(s network.Stream) {
			for _, b := range frame[:n] {
				s.Write([]byte{b})
			}
			s.Close()
		})
		c := peerexchange.NewClient(client, fast)
		for n = range len(frame) {
			_, err := c.Ask(t.Context(), server.ID(), 20)
			var exchange *peerexchange.ExchangeError
			require.ErrorAs(t, err, &exchange)
		}
		n++
		got, err := c.Ask(t.Context(), server.ID(), 20)
		require.NoError(t, err)
		require.Len(t, got.Peers, 1)
	})
}
