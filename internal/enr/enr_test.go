package enr_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/sharding"
)

var key = p2ptest.Key(1)

func idOf(k crypto.PrivKey) peer.ID {
	id, err := peer.IDFromPrivateKey(k)
	if err != nil {
		panic(err)
	}
	return id
}

var (
	self  = idOf(key)
	other = idOf(p2ptest.Key(2))
)

func shards(cluster uint16, indices ...uint16) sharding.Set {
	s, err := sharding.NewSet(cluster, indices...)
	if err != nil {
		panic(err)
	}
	return s
}

func addrs(ss ...string) (out []ma.Multiaddr) {
	for _, s := range ss {
		s = strings.NewReplacer("SELF", self.String(), "OTHER", other.String()).Replace(s)
		out = append(out, ma.StringCast(s))
	}
	return out
}

func build(t testing.TB, f enr.Fields) *enr.Record {
	t.Helper()
	r, err := enr.Build(key, f)
	require.NoError(t, err)
	again, err := enr.Parse(r.String())
	require.NoError(t, err)
	require.Equal(t, r, again)
	return r
}

func TestBuildAndParse(t *testing.T) {
	full := enr.Fields{
		Seq:          42,
		IP4:          netip.MustParseAddr("20.1.2.3"),
		TCP:          60000,
		UDP:          9000,
		IP6:          netip.MustParseAddr("2a00::1"),
		TCP6:         60006,
		UDP6:         9006,
		Multiaddrs:   addrs("/dns4/example.org/tcp/443/wss", "/ip4/20.1.2.3/udp/9/quic-v1"),
		Capabilities: enr.Relay | enr.Lightpush,
		Shards:       shards(16, 128, 32),
	}
	r := build(t, full)
	require.Equal(t, full, r.Fields())
	require.Equal(t, self, r.PeerID())
	require.Equal(t, []string{"id", "ip", "ip6", "multiaddrs", "rs", "secp256k1", "tcp", "tcp6", "udp", "udp6", "waku2"}, r.Keys())
	require.Equal(t, "relay+lightpush", r.Capabilities().String())
	require.True(t, r.Capabilities().Has(enr.Relay))
	require.False(t, r.Capabilities().Has(enr.Relay|enr.Store))
	require.Equal(t, []string{
		"/ip4/20.1.2.3/tcp/60000", "/ip6/2a00::1/tcp/60006",
		"/dns4/example.org/tcp/443/wss", "/ip4/20.1.2.3/udp/9/quic-v1",
	}, stringsOf(r.Addrs()))
	require.Equal(t, peer.AddrInfo{ID: self, Addrs: r.Addrs()}, r.AddrInfo())

	bare := build(t, enr.Fields{})
	require.Equal(t, enr.Fields{}, bare.Fields())
	require.Equal(t, []string{"id", "secp256k1"}, bare.Keys())
	require.Empty(t, bare.Addrs())
	require.Equal(t, "none", bare.Capabilities().String())
	set, err := bare.Shards()
	require.NoError(t, err)
	require.Zero(t, set)
}

// The next record of a node is its fields changed, with a higher number.
func TestNextRecord(t *testing.T) {
	f := build(t, enr.Fields{Seq: 1, TCP: 1, Shards: shards(16, 1)}).Fields()
	require.NoError(t, f.Shards.Add(2))
	f.Seq++
	next := build(t, f)
	require.Equal(t, uint64(2), next.Seq())
	set, err := next.Shards()
	require.NoError(t, err)
	require.Equal(t, shards(16, 1, 2), set)
}

func TestRecordsAreImmutable(t *testing.T) {
	r := build(t, enr.Fields{Multiaddrs: addrs("/dns4/a/tcp/1", "/dns4/b/tcp/2")})
	before := r.String()
	r.Bytes()[10]++
	r.PublicKey()[0]++
	r.Keys()[0] = "x"
	r.Fields().Multiaddrs[0] = nil
	require.Equal(t, before, r.String())
	require.Equal(t, "/dns4/a/tcp/1", r.Fields().Multiaddrs[0].String())
	require.Equal(t, "id", r.Keys()[0])
}

func TestAddrs(t *testing.T) {
	ip4, ip6 := netip.MustParseAddr("20.1.2.3"), netip.MustParseAddr("2a00::1")
	for name, c := range map[string]struct {
		f    enr.Fields
		want []string
	}{
		"no port":             {enr.Fields{IP4: ip4, UDP: 9000}, nil},
		"no address":          {enr.Fields{TCP: 60000}, nil},
		"one port for both":   {enr.Fields{IP4: ip4, IP6: ip6, TCP: 6}, []string{"/ip4/20.1.2.3/tcp/6", "/ip6/2a00::1/tcp/6"}},
		"IPv6 only":           {enr.Fields{IP6: ip6, TCP6: 6}, []string{"/ip6/2a00::1/tcp/6"}},
		"any address is none": {enr.Fields{IP4: netip.IPv4Unspecified(), IP6: netip.IPv6Unspecified(), TCP: 6}, nil},
		"nothing is said twice": {enr.Fields{IP4: ip4, TCP: 6, Multiaddrs: addrs("/ip4/20.1.2.3/tcp/6", "/dns4/a/tcp/1", "/dns4/a/tcp/1")},
			[]string{"/ip4/20.1.2.3/tcp/6", "/dns4/a/tcp/1"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, stringsOf(build(t, c.f).Addrs()))
		})
	}
}

// entries encodes multiaddrs as they stand.
func entries(as ...[]byte) []byte {
	var b []byte
	for _, a := range as {
		b = binary.BigEndian.AppendUint16(b, uint16(len(a)))
		b = append(b, a...)
	}
	return enr.RLPBytes(b)
}

func signed(t testing.TB, pairs map[string][]byte) *enr.Record {
	t.Helper()
	r, err := enr.SignPairs(key, 1, pairs)
	require.NoError(t, err)
	return r
}

func TestMultiaddrsRead(t *testing.T) {
	good := addrs("/dns4/a/tcp/1")[0].Bytes()
	circuit := addrs("/ip4/20.0.0.9/tcp/1/p2p/OTHER/p2p-circuit")
	for name, c := range map[string]struct {
		value []byte
		want  []ma.Multiaddr
	}{
		"none":                 {entries(), nil},
		"unparsable in front":  {entries([]byte{0xff, 0xff, 0xff, 1}, good), addrs("/dns4/a/tcp/1")},
		"unparsable behind":    {entries(good, []byte{4, 1}), addrs("/dns4/a/tcp/1")},
		"empty entry":          {entries(nil, good), addrs("/dns4/a/tcp/1")},
		"longer than the rest": {enr.RLPBytes(append([]byte{0, 200}, good...)), nil},
		"half a length":        {enr.RLPBytes([]byte{0}), nil},
		"not a byte string":    {[]byte{0xc1, 0x01}, nil},
		"own id":               {entries(addrs("/dns4/a/tcp/1/p2p/SELF")[0].Bytes()), addrs("/dns4/a/tcp/1")},
		"own id alone":         {entries(addrs("/p2p/SELF")[0].Bytes()), nil},
		"relay":                {entries(addrs("/ip4/20.0.0.9/tcp/1/p2p/OTHER")[0].Bytes()), circuit},
		"circuit spelled out":  {entries(circuit[0].Bytes()), circuit},
		"circuit and own id":   {entries(addrs("/ip4/20.0.0.9/tcp/1/p2p/OTHER/p2p-circuit/p2p/SELF")[0].Bytes()), circuit},
		"tls and ws":           {entries(addrs("/dns4/a/tcp/1/tls/ws")[0].Bytes()), addrs("/dns4/a/tcp/1/tls/ws")},
	} {
		t.Run(name, func(t *testing.T) {
			r := signed(t, map[string][]byte{"multiaddrs": c.value})
			require.Equal(t, stringsOf(c.want), stringsOf(r.Fields().Multiaddrs))
		})
	}
}

func TestMultiaddrsWritten(t *testing.T) {
	for in, want := range map[string]string{
		"/dns4/a/tcp/1":                                          "/dns4/a/tcp/1",
		"/dns4/a/tcp/1/p2p/SELF":                                 "/dns4/a/tcp/1",
		"/dns4/a/tcp/443/wss":                                    "/dns4/a/tcp/443/wss",
		"/dns4/a/tcp/443/tls/ws":                                 "/dns4/a/tcp/443/wss",
		"/dns4/a/tcp/443/tls/ws/p2p/SELF":                        "/dns4/a/tcp/443/wss",
		"/dns4/a/tcp/443/tls/sni/b/ws":                           "/dns4/a/tcp/443/tls/sni/b/ws",
		"/ip4/20.0.0.9/tcp/1/p2p/OTHER/p2p-circuit":              "/ip4/20.0.0.9/tcp/1/p2p/OTHER",
		"/ip4/20.0.0.9/tcp/1/p2p/OTHER/p2p-circuit/p2p/SELF":     "/ip4/20.0.0.9/tcp/1/p2p/OTHER",
		"/dns4/relay/tcp/443/wss/p2p/OTHER/p2p-circuit/p2p/SELF": "/dns4/relay/tcp/443/wss/p2p/OTHER",
	} {
		r := build(t, enr.Fields{Multiaddrs: addrs(in)})
		raw := addrs(want)[0].Bytes()
		require.Contains(t, string(r.Bytes()), string(binary.BigEndian.AppendUint16(nil, uint16(len(raw))))+string(raw), in)
	}
	// The code of wss.
	require.True(t, bytes.Contains(build(t, enr.Fields{Multiaddrs: addrs("/dns4/a/tcp/443/wss")}).Bytes(), []byte{0xde, 0x03}))
	// A circuit comes back whole.
	r := build(t, enr.Fields{Multiaddrs: addrs("/ip4/20.0.0.9/tcp/1/p2p/OTHER/p2p-circuit/p2p/SELF")})
	require.Equal(t, stringsOf(addrs("/ip4/20.0.0.9/tcp/1/p2p/OTHER/p2p-circuit")), stringsOf(r.Addrs()))

	for _, in := range [][]ma.Multiaddr{
		addrs("/dns4/a/tcp/1/p2p/OTHER"),
		addrs("/ip4/20.0.0.9/tcp/1/p2p-circuit"),
		addrs("/p2p/SELF"),
		addrs("/dns4/" + strings.Repeat("a", 400) + "/tcp/1"),
		{nil},
	} {
		_, err := enr.Build(key, enr.Fields{Multiaddrs: in})
		require.ErrorIs(t, err, enr.ErrAddress)
	}
}

func TestSizeLimit(t *testing.T) {
	dual := enr.Fields{
		Seq: 1, IP4: netip.MustParseAddr("20.1.2.3"), TCP: 60000, UDP: 9000,
		IP6: netip.MustParseAddr("2a00::1"), TCP6: 60000, UDP6: 9000,
		Capabilities: enr.Relay, Shards: shards(16, 128),
	}
	for n := range 30 {
		dual.Multiaddrs = append(dual.Multiaddrs, addrs(fmt.Sprintf("/dns4/h%02d/tcp/1", n))...)
	}
	r := build(t, dual)
	require.LessOrEqual(t, len(r.Bytes()), enr.MaxSize)
	kept := r.Fields().Multiaddrs
	require.NotEmpty(t, kept)
	require.Equal(t, stringsOf(dual.Multiaddrs[:len(kept)]), stringsOf(kept), "the first ones stay")
	require.Greater(t, len(r.Bytes())+len(dual.Multiaddrs[0].Bytes())+2, enr.MaxSize, "no room for another")
	require.True(t, r.Fields().IP6.IsValid())

	// A bit vector leaves no room for a second address family.
	for i := range uint16(64) {
		require.NoError(t, dual.Shards.Add(i))
	}
	r = build(t, dual)
	require.Equal(t, enr.Fields{
		Seq: 1, IP4: dual.IP4, TCP: 60000, UDP: 9000, Capabilities: enr.Relay, Shards: dual.Shards,
	}, r.Fields())
	require.Contains(t, r.Keys(), "rsv")
	require.NotContains(t, r.Keys(), "rs")
}

func TestSeqAndCapabilityExtremes(t *testing.T) {
	r := build(t, enr.Fields{Seq: 1<<64 - 1, Capabilities: 0xff, TCP: 65535, UDP: 1})
	require.Equal(t, uint64(1<<64-1), r.Seq())
	require.Equal(t, []string{"relay", "store", "filter", "lightpush", "sync", "mix"}, r.Capabilities().Names())
}

func TestWaku2Read(t *testing.T) {
	for name, c := range map[string]struct {
		value []byte
		want  enr.Capabilities
	}{
		"go-waku's zero":     {[]byte{0x80}, 0},
		"nwaku's zero":       {[]byte{0x00}, 0},
		"relay":              {[]byte{0x01}, enr.Relay},
		"unknown bits":       {[]byte{0x81, 0xc1}, enr.Relay},
		"two bytes":          {[]byte{0x82, 0x01, 0x01}, 0},
		"a list":             {[]byte{0xc1, 0x01}, 0},
		"one byte, overlong": {[]byte{0x81, 0x01}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, signed(t, map[string][]byte{"waku2": c.value}).Capabilities())
		})
	}
}

func TestShardsRead(t *testing.T) {
	rs := func(s sharding.Set) []byte {
		b, err := s.EncodeRS()
		require.NoError(t, err)
		return enr.RLPBytes(b)
	}
	rsv := func(s sharding.Set) []byte { return enr.RLPBytes(s.EncodeRSV()) }
	get := func(pairs map[string][]byte) (sharding.Set, error) { return signed(t, pairs).Shards() }

	set, err := get(map[string][]byte{"rs": rs(shards(16, 32)), "rsv": rsv(shards(16, 64))})
	require.NoError(t, err)
	require.Equal(t, shards(16, 32), set, "rs wins")
	require.True(t, signed(t, map[string][]byte{"rs": rs(shards(16, 32)), "rsv": rsv(shards(16, 64))}).Ambiguous())
	require.False(t, signed(t, map[string][]byte{"rs": rs(shards(16, 32))}).Ambiguous())
	require.False(t, signed(t, map[string][]byte{"rsv": rsv(shards(16, 32))}).Ambiguous())
	set, err = get(map[string][]byte{"rsv": rsv(shards(16, 64))})
	require.NoError(t, err)
	require.Equal(t, shards(16, 64), set)
	for _, bad := range [][]byte{{0, 16, 2, 0, 1}, {0, 16, 1, 4, 0}, {0}} { // length, index 1024
		set, err = get(map[string][]byte{"rs": enr.RLPBytes(bad)})
		require.Error(t, err)
		require.Zero(t, set)
	}
}

func TestSenselessValuesAreMissing(t *testing.T) {
	r := signed(t, map[string][]byte{
		"ip":   enr.RLPBytes([]byte{1, 2, 3}),
		"ip6":  enr.RLPBytes([]byte{1, 2, 3, 4}),
		"tcp":  {0x83, 1, 2, 3},
		"udp":  {0xc0},
		"tcp6": {0x82, 0, 1},
		"eth2": {0xc2, 0x01, 0xc0},
		"":     enr.RLPBytes(nil),
	})
	require.Equal(t, enr.Fields{Seq: 1}, r.Fields())
	require.Len(t, r.Keys(), 9)
}

func TestBuildRefusesKeysAndAddresses(t *testing.T) {
	ed, _, err := crypto.GenerateEd25519Key(rand.Reader)
	require.NoError(t, err)
	for _, k := range []crypto.PrivKey{nil, ed} {
		_, err := enr.Build(k, enr.Fields{})
		require.ErrorIs(t, err, enr.ErrKey)
	}
	for _, f := range []enr.Fields{
		{IP4: netip.MustParseAddr("::1")},
		{IP6: netip.MustParseAddr("1.2.3.4")},
		{IP6: netip.MustParseAddr("::ffff:1.2.3.4")},
		{IP6: netip.MustParseAddr("fe80::1%eth0")},
	} {
		_, err := enr.Build(key, f)
		require.ErrorIs(t, err, enr.ErrAddress)
	}
}

func TestParseRefuses(t *testing.T) {
	r := build(t, enr.Fields{Seq: 7, TCP: 60000})
	text, raw := r.String(), r.Bytes()
	encode := func(b []byte) string { return "enr:" + base64.RawURLEncoding.EncodeToString(b) }
	change := func(at int) string {
		b := bytes.Clone(raw)
		b[at] ^= 1
		return encode(b)
	}
	// raw is f8 len b8 40 signature seq …
	sig := 4
	highS := bytes.Clone(raw)
	var n secp256k1.ModNScalar
	n.SetByteSlice(raw[sig+32 : sig+64])
	n.Negate().PutBytesUnchecked(highS[sig+32:]) // the same signature in its other form
	beyond := bytes.Clone(raw)
	copy(beyond[sig:], bytes.Repeat([]byte{0xff}, 32))
	zeroR := bytes.Clone(raw)
	copy(zeroR[sig:], make([]byte, 32))
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":              {"", enr.ErrMalformed},
		"no prefix":          {text[4:], enr.ErrMalformed},
		"prefix alone":       {"enr:", enr.ErrMalformed},
		"not base64":         {"enr:!!!", enr.ErrMalformed},
		"padding":            {text + "==", enr.ErrMalformed},
		"line break":         {text[:20] + "\n" + text[20:], enr.ErrMalformed},
		"cut short":          {encode(raw[:len(raw)-1]), enr.ErrMalformed},
		"trailing byte":      {encode(append(bytes.Clone(raw), 0)), enr.ErrMalformed},
		"too long":           {"enr:" + strings.Repeat("A", 401), enr.ErrTooLarge},
		"too long by a byte": {encode(make([]byte, enr.MaxSize+1)), enr.ErrTooLarge},
		"other number":       {change(sig + 64), enr.ErrSignature},
		"other r":            {change(sig), enr.ErrSignature},
		"other s":            {change(sig + 63), enr.ErrSignature},
		"high s":             {encode(highS), enr.ErrSignature},
		"r beyond the order": {encode(beyond), enr.ErrSignature},
		"r is zero":          {encode(zeroR), enr.ErrSignature},
		"other value":        {change(len(raw) - 1), enr.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := enr.Parse(c.text)
			require.ErrorIs(t, err, c.want)
			require.Nil(t, got)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(build(f, enr.Fields{Seq: 1, TCP: 60000, Shards: shards(16, 32)}).String())
	f.Add("enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := enr.Parse(text); err == nil {
			require.Equal(t, text, r.String())
		}
	})
}

// FuzzValues gets past the signature: what a record's owner can make us read.
func FuzzValues(f *testing.F) {
	good := addrs("/dns4/a/tcp/1/p2p/OTHER")[0].Bytes()
	f.Add([]byte{0, 16, 1, 0, 32}, make([]byte, 130), append([]byte{0, byte(len(good))}, good...), []byte{1}, []byte{1, 2, 3, 4}, []byte{1})
	f.Add([]byte{0}, []byte{0}, []byte{0, 9, 1}, []byte{}, []byte{1}, []byte{0x82, 0xea, 0x60})
	public := secp256k1.NewPrivateKey(new(secp256k1.ModNScalar).SetInt(1)).PubKey()
	f.Fuzz(func(t *testing.T, rs, rsv, multiaddrs, waku2, ip, tcp []byte) {
		fields := enr.ReadPairs(self, map[string][]byte{
			"rs": enr.RLPBytes(rs), "rsv": enr.RLPBytes(rsv), "multiaddrs": enr.RLPBytes(multiaddrs),
			"waku2": enr.RLPBytes(waku2), "ip": enr.RLPBytes(ip), "ip6": enr.RLPBytes(ip), "tcp": tcp,
		})
		again, err := enr.WriteAndRead(self, public, fields)
		if err != nil {
			require.ErrorIs(t, err, enr.ErrAddress) // readable, but of no use
			return
		}
		for i, a := range fields.Multiaddrs {
			if strings.HasSuffix(a.String(), "/tls/ws") {
				fields.Multiaddrs[i] = again.Multiaddrs[i] // written as /wss
			}
		}
		require.Equal(t, stringsOf(fields.Multiaddrs), stringsOf(again.Multiaddrs))
		fields.Multiaddrs, again.Multiaddrs = nil, nil
		if fields.Shards.Len() == 0 {
			fields.Shards = sharding.Set{} // no shards, no cluster
		}
		require.Equal(t, fields, again)
	})
}

func BenchmarkParse(b *testing.B) {
	text := build(b, enr.Fields{Seq: 1, TCP: 60000, Shards: shards(16, 32), Multiaddrs: addrs("/dns4/a/tcp/1")}).String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := enr.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
