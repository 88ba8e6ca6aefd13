package peerexchange_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/sha3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/peerexchange"
	"github.com/status-im/shoal/sharding"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

type vectors struct {
	Requests []struct {
		Name, Hex string
		Peers     int
		Ours      bool
	}
	Responses []struct {
		Name, Hex, Desc string
		Code            peerexchange.StatusCode
		Peers           []string
		Ours            bool
		RetryMillis     int
	}
}

func loadVectors(t testing.TB) (v vectors) {
	b, err := os.ReadFile("testdata/wire.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Requests)
	require.NotEmpty(t, v.Responses)
	return v
}

// idOf is who signs record n.
func idOf(n int) peer.ID {
	id, err := peer.IDFromPrivateKey(p2ptest.Key(n))
	if err != nil {
		panic(err)
	}
	return id
}

// signed are records by their number. Signing takes its time.
var signed sync.Map

// record is the n-th peer's, on a shard of its own.
func record(n int, change ...func(f *enr.Fields)) []byte {
	if r, ok := signed.Load(n); ok && len(change) == 0 {
		return r.([]byte)
	}
	shards, err := sharding.NewSet(16, uint16(n%1024), 32)
	if err != nil {
		panic(err)
	}
	f := enr.Fields{
		Seq:          uint64(n),
		IP4:          netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}),
		TCP:          30303,
		Capabilities: enr.Relay | enr.Store,
		Shards:       shards,
	}
	for _, c := range change {
		c(&f)
	}
	r, err := enr.Build(p2ptest.Key(n), f)
	if err != nil {
		panic(err)
	}
	if len(change) == 0 {
		signed.Store(n, r.Bytes())
	}
	return r.Bytes()
}

// records are those of the first n peers from a number on.
func records(from, n int) (all [][]byte) {
	for i := range n {
		all = append(all, record(from+i))
	}
	return all
}

// forge signs whatever it is told to: key and value in turn, each in RLP.
func forge(n int, pairs ...[]byte) []byte { return forgeSeq(n, []byte{1}, pairs...) }

// forgeSeq is forge with a number of its own, in RLP.
func forgeSeq(n int, seq []byte, pairs ...[]byte) []byte {
	raw, err := p2ptest.Key(n).Raw()
	if err != nil {
		panic(err)
	}
	content := slices.Concat(append([][]byte{seq}, pairs...)...)
	h := sha3.NewLegacyKeccak256()
	h.Write(list(content))
	sig := ecdsa.Sign(secp256k1.PrivKeyFromBytes(raw), h.Sum(nil))
	r, s := sig.R(), sig.S()
	rb, sb := r.Bytes(), s.Bytes()
	return list(append(rlp(slices.Concat(rb[:], sb[:])), content...))
}

func header(short, long byte, n int) []byte {
	if n < 56 {
		return []byte{short + byte(n)}
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(n))
	if n < 256 {
		b = b[1:]
	}
	return append([]byte{long + byte(len(b))}, b...)
}

func list(content []byte) []byte { return append(header(0xc0, 0xf7, len(content)), content...) }

func rlp(b []byte) []byte {
	if len(b) == 1 && b[0] < 0x80 {
		return b
	}
	return append(header(0x80, 0xb7, len(b)), b...)
}

// pair is a key and its value.
func pair(key string, value []byte) []byte { return append(rlp([]byte(key)), rlp(value)...) }

// The pairs that a good record has, in their order: id, ip, secp256k1, tcp.
func idPair() []byte { return pair("id", []byte("v4")) }
func ipPair() []byte { return pair("ip", []byte{192, 0, 2, 1}) }
func keyPair(n int) []byte {
	raw, err := p2ptest.Key(n).GetPublic().Raw()
	if err != nil {
		panic(err)
	}
	return pair("secp256k1", raw)
}
func tcpPair() []byte { return pair("tcp", []byte{0x76, 0x5f}) }

func lengthed(num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

func varint(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

// answer is a response with these records and nothing else.
func answer(records ...[]byte) []byte {
	var inner []byte
	for _, r := range records {
		inner = append(inner, lengthed(1, lengthed(1, r))...)
	}
	return lengthed(2, inner)
}

// reply is a response taken apart.
type reply struct {
	code  uint64
	desc  string
	peers [][]byte
}

// parse insists on what others need to find, and in this order.
func parse(t testing.TB, b []byte) (r reply) {
	t.Helper()
	require.Equal(t, "0a020800", hex.EncodeToString(b[:4]), "nwaku needs a query")
	inner, n := protowire.ConsumeBytes(b[5:])
	require.Equal(t, byte(0x12), b[4])
	require.Equal(t, len(b)-5, n, "nothing follows the response")
	for b := inner; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		b = b[n:]
		if typ == protowire.VarintType {
			r.code, n = protowire.ConsumeVarint(b)
			require.Equal(t, protowire.Number(10), num)
		} else {
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			require.Positive(t, n)
			if num == 11 {
				r.desc = string(v)
			} else {
				require.Equal(t, protowire.Number(1), num)
				require.Equal(t, byte(0x0a), v[0])
				e, m := protowire.ConsumeBytes(v[1:])
				require.Equal(t, len(v)-1, m)
				r.peers = append(r.peers, e)
			}
		}
		require.Positive(t, n)
		b = b[n:]
	}
	require.NotZero(t, r.code, "the status is always there")
	require.LessOrEqual(t, len(r.desc), 256)
	require.Equal(t, r.code == 200, len(r.peers) > 0)
	return r
}

// couple is a client and a server host in a bubble, connected.
func couple(t *testing.T, f func(t *testing.T, client, server host.Host)) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		p2ptest.Line(t, hosts)
		f(t, hosts[0], hosts[1])
	})
}

// from is a sampler that has these records and gives the first of them.
func from(records ...[]byte) peerexchange.Sampler {
	return func(_ peer.ID, n int) [][]byte { return records[:min(n, len(records))] }
}

// serve answers on h until the test ends.
func serve(t testing.TB, h host.Host, sample peerexchange.Sampler, cfg peerexchange.ServerConfig) *peerexchange.Server {
	s := peerexchange.NewServer(h, sample, cfg)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// answerBy lets h answer with bytes of its own making.
func answerBy(h host.Host, f func(request []byte) []byte) {
	h.SetStreamHandler(peerexchange.ID, func(s network.Stream) {
		b, err := wire.ReadFrame(s, 4<<20)
		if err != nil {
			s.Reset()
			return
		}
		wire.WriteFrame(s, f(b))
		s.Close()
	})
}

// ask sends a request as it stands and returns the response as it stands.
func ask(t testing.TB, from, to host.Host, request []byte) []byte {
	t.Helper()
	s, err := p2ptest.OpenStream(t.Context(), from, to.ID(), peerexchange.ID)
	require.NoError(t, err)
	defer s.Reset()
	require.NoError(t, wire.WriteFrame(s, request))
	b, err := wire.ReadFrame(s, 1<<20) // our side stays open
	require.NoError(t, err)
	_, err = s.Read(make([]byte, 1))
	require.ErrorContains(t, err, "EOF", "js-waku reads to the end")
	return b
}

// fast is a client without a rate of its own.
var fast = peerexchange.ClientConfig{Rate: -1}

// encoded are the records of peers.
func encoded(peers []peerexchange.Peer) (out [][]byte) {
	for _, p := range peers {
		out = append(out, p.ENR)
	}
	return out
}
