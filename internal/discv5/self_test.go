package discv5_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/discv5"
	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/sharding"
)

// sameAsBuilt checks that the library signed what Build would have.
func sameAsBuilt(t testing.TB, key int, r *enr.Record) {
	t.Helper()
	want, err := enr.Build(p2ptest.Key(key), r.Fields())
	require.NoError(t, err)
	require.Equal(t, want.String(), r.String())
}

func TestRecord(t *testing.T) {
	f := enr.Fields{
		IP4: netip.MustParseAddr("20.1.2.3"), TCP: 60000, UDP: 9000,
		Multiaddrs:   []ma.Multiaddr{ma.StringCast("/dns4/a.example.org/tcp/443/wss")},
		Capabilities: enr.Relay | enr.Store, Shards: shards(16, 32, 64),
	}
	before := uint64(time.Now().UnixMilli())
	s := listen(t, 1, f.Shards, func(c *discv5.Config) { c.Fields = f })
	r := s.Record()
	sameAsBuilt(t, 1, r)
	require.GreaterOrEqual(t, r.Seq(), before)
	f.Seq = r.Seq()
	require.Equal(t, f, r.Fields())

	again, err := s.Set(f)
	require.NoError(t, err)
	require.Equal(t, r, again, "nothing has changed")

	require.NoError(t, f.Shards.Add(128))
	r, err = s.Set(f)
	require.NoError(t, err)
	require.Equal(t, f.Seq+1, r.Seq())
	require.Equal(t, f.Shards, r.Fields().Shards)
	require.Equal(t, r, s.Record())
	sameAsBuilt(t, 1, r)

	// No shards, no services, no address.
	r, err = s.Set(enr.Fields{TCP: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"id", "secp256k1", "tcp", "udp"}, r.Keys())
	require.Equal(t, s.Addr().Port(), r.Fields().UDP, "the port listened on")
	sameAsBuilt(t, 1, r)

	_, err = s.Set(enr.Fields{IP4: netip.MustParseAddr("::1")})
	require.ErrorIs(t, err, enr.ErrAddress)
	require.Equal(t, r, s.Record())
}

// Numbers never go back, even if the clock did.
func TestSeq(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	now := uint64(time.Now().UnixMilli())
	for name, least := range map[string]uint64{
		"none": 0, "past": now - 1e6, "soon": now + 20, "clock went back": now + 3_600_000,
		"far": 1 << 60,
	} {
		t.Run(name, func(t *testing.T) {
			seqOf := func(c *discv5.Config) { c.Fields.Seq = least }
			s := listen(t, 1, shards(16, 1), seqOf)
			r := s.Record()
			require.GreaterOrEqual(t, r.Seq(), least)
			if least > now+1000 {
				require.Equal(t, least, r.Seq())
			}
			sameAsBuilt(t, 1, r)
			next, err := s.Set(enr.Fields{TCP: 2})
			require.NoError(t, err)
			require.Greater(t, next.Seq(), r.Seq())
			require.NoError(t, s.Close())
		})
	}
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left)

	_, err = discv5.Listen(discv5.Config{Key: p2ptest.Key(1), Listen: netip.AddrPortFrom(loopback, 0), Fields: enr.Fields{Seq: math.MaxUint64}})
	require.ErrorIs(t, err, discv5.ErrSeq)
}

func TestKey(t *testing.T) {
	ed, _, err := crypto.GenerateEd25519Key(zeros{})
	require.NoError(t, err)
	for _, key := range []crypto.PrivKey{nil, ed} {
		_, err := discv5.Listen(discv5.Config{Key: key, Listen: netip.AddrPortFrom(loopback, 0)})
		require.ErrorIs(t, err, discv5.ErrKey)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestPortTaken(t *testing.T) {
	s := listen(t, 1, shards(16, 1))
	_, err := discv5.Listen(discv5.Config{Key: p2ptest.Key(2), Listen: s.Addr()})
	require.ErrorIs(t, err, discv5.ErrPortTaken)
}

// vote has n peers say that they see s at endpoint.
func vote(s *discv5.Service, n int, endpoint string) {
	for i := range n {
		from := netip.AddrFrom4([4]byte{30, 0, byte(i >> 8), byte(i)})
		s.Vote(netip.AddrPortFrom(from, 9000), netip.MustParseAddrPort(endpoint))
	}
}

func TestVotes(t *testing.T) {
	told := make(chan *enr.Record, 10)
	s := listen(t, 1, shards(16, 1), func(c *discv5.Config) {
		c.OnRecord = func(r *enr.Record) { told <- r }
	})
	first := s.Record()
	vote(s, 9, "20.0.0.1:4000")
	require.Equal(t, first, s.Record(), "nine aren't enough")
	vote(s, 10, "20.0.0.1:4000")
	r := <-told
	require.Equal(t, r, s.Record())
	require.Equal(t, "20.0.0.1", r.Fields().IP4.String())
	require.Equal(t, uint16(4000), r.Fields().UDP)
	require.Equal(t, uint16(60000), r.Fields().TCP)
	require.Greater(t, r.Seq(), first.Seq())
	sameAsBuilt(t, 1, r)

	// They outweigh what Set says, which isn't reported a second time.
	r, err := s.Set(enr.Fields{IP4: loopback, TCP: 1})
	require.NoError(t, err)
	require.Equal(t, "20.0.0.1", r.Fields().IP4.String())
	require.NotContains(t, r.Keys(), "udp6")
	vote(s, 12, "20.0.0.2:4000")
	require.Equal(t, "20.0.0.2", s.Record().Fields().IP4.String())
	for r = range told { // in between, no endpoint may have ten votes
		if r.Seq() == s.Record().Seq() {
			break
		}
	}
	require.Equal(t, s.Record(), r)
}

// When votes are forgotten, what they have brought stays until there is reason
// to doubt it.
func TestVotesOutlast(t *testing.T) {
	s := listen(t, 1, shards(16, 1))
	given := enr.Fields{IP4: loopback, TCP: 60000}
	vote(s, 10, "20.0.0.1:4000")
	voted := s.Record().Fields()
	vote(s, 1, "20.0.0.3:1") // nine are left
	require.Equal(t, voted, s.Record().Fields())
	r, err := s.Set(given)
	require.NoError(t, err)
	require.Equal(t, "20.0.0.1", r.Fields().IP4.String())
	require.Equal(t, uint16(4000), r.Fields().UDP)
	s.Refresh()
	require.Equal(t, loopback, s.Record().Fields().IP4)
	require.Equal(t, s.Addr().Port(), s.Record().Fields().UDP)

	vote(s, 10, "20.0.0.1:4000")
	require.Equal(t, "20.0.0.1", s.Record().Fields().IP4.String())
	vote(s, 1, "20.0.0.3:1")
	require.Equal(t, loopback, s.Record().Fields().IP4, "those votes may be from before")

	s = listen(t, 2, shards(16, 1))
	vote(s, 10, "20.0.0.1:4000")
	vote(s, 1, "20.0.0.3:1")
	given.IP4 = netip.MustParseAddr("127.0.0.9")
	r, err = s.Set(given)
	require.NoError(t, err)
	require.Equal(t, given.IP4, r.Fields().IP4)
}

func TestFixedEndpoint(t *testing.T) {
	s := listen(t, 1, shards(16, 1), func(c *discv5.Config) { c.Fixed = true })
	r := s.Record()
	vote(s, 20, "20.0.0.1:4000")
	vote(s, 20, "[2a00::1]:4000")
	require.Equal(t, r, s.Record())
	r, err := s.Set(enr.Fields{TCP: 1})
	require.NoError(t, err)
	require.False(t, r.Fields().IP4.IsValid(), "an operator may name no address")
	r, err = s.Set(enr.Fields{TCP: 1, IP4: netip.MustParseAddr("20.0.0.7"), UDP: 7})
	require.NoError(t, err)
	require.Equal(t, "20.0.0.7", r.Fields().IP4.String())
	require.Equal(t, uint16(7), r.Fields().UDP)
}

// A socket for IPv4 has no IPv6 address, whatever peers say.
func TestVotesForTheOtherFamily(t *testing.T) {
	s := listen(t, 1, shards(16, 1))
	r := s.Record()
	vote(s, 20, "[2a00::1]:4000")
	vote(s, 20, "[::ffff:20.0.0.1]:4000")
	require.Equal(t, r, s.Record())
}

func both(c *discv5.Config) { c.Listen = netip.AddrPort{} }

func TestVotesForBothFamilies(t *testing.T) {
	s := listen(t, 1, shards(16, 1), both)
	vote(s, 20, "[2a00::1]:4000")
	r := s.Record()
	require.Equal(t, "2a00::1", r.Fields().IP6.String())
	require.Equal(t, uint16(4000), r.Fields().UDP6)
	sameAsBuilt(t, 1, r)

	// An IPv4 address in IPv6 clothes is nothing to announce.
	vote(s, 20, "[::ffff:20.0.0.1]:4000")
	require.False(t, s.Record().Fields().IP6.IsValid())
	sameAsBuilt(t, 1, s.Record())
	vote(s, 20, "[2a00::1]:4000")
	require.False(t, s.Record().Fields().IP6.IsValid())
	r, err := s.Set(enr.Fields{IP6: netip.MustParseAddr("2a00::7")})
	require.NoError(t, err)
	require.Equal(t, "2a00::7", r.Fields().IP6.String())
}

// Whatever is set and voted, in whatever order, every record that the library
// can be made to sign in between has its 300 bytes and is well-formed: a longer
// one would end the process.
func TestRecordAlwaysFits(t *testing.T) {
	for name, edit := range map[string]func(*discv5.Config){
		"IPv4":  func(*discv5.Config) {},
		"both":  both,
		"fixed": func(c *discv5.Config) { c.Fixed = true; both(c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := listen(t, 1, shards(16, 1), edit)
			last := s.Record().Seq()
			s.Step(func() { s.Sign() })
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range 25 {
				if rng.IntN(3) == 0 {
					vote(s, 20+i%2, endpoint(rng))
				}
				if rng.IntN(10) == 0 {
					s.Forget()
					s.Sign()
				}
				f := fields(rng)
				r, err := s.Set(f)
				if name == "fixed" && err != nil { // nothing that could be left out
					require.ErrorIs(t, err, enr.ErrTooLarge)
					require.True(t, f.IP6.IsValid() && !f.IP4.IsValid() && f.Shards.Len() >= 63)
					continue
				}
				require.NoError(t, err)
				require.Greater(t, r.Seq()+1, last)
				last = r.Seq()
				require.LessOrEqual(t, len(r.Bytes()), enr.MaxSize)
				require.False(t, slices.Contains(r.Keys(), "rs") && slices.Contains(r.Keys(), "rsv"))
				require.Equal(t, f.Shards, r.Fields().Shards)
				require.Equal(t, f.Capabilities, r.Fields().Capabilities)
				kept := r.Fields().Multiaddrs
				for j, a := range kept {
					require.True(t, f.Multiaddrs[j].Equal(a))
				}
				if !r.Fields().IP6.Is4In6() {
					sameAsBuilt(t, 1, r)
				}
				// What is left out wouldn't have fitted, give or take the room
				// for votes.
				if n := len(kept); n < len(f.Multiaddrs) {
					require.Greater(t, len(r.Bytes())+3+len(f.Multiaddrs[n].Bytes())+8+7+8+21+8+4, enr.MaxSize)
				}
			}
		})
	}
}

func endpoint(rng *rand.Rand) string {
	port := []int{1, 200, 9000, 65535}[rng.IntN(4)]
	ip := []string{"20.0.0.1", "20.0.0.2", "[2a00::1]", "[2a00:1:2:3:4:5:6:7]", "0.0.0.0", "[::]"}[rng.IntN(6)]
	return fmt.Sprintf("%s:%d", ip, port)
}

func fields(rng *rand.Rand) enr.Fields {
	f := enr.Fields{TCP: []uint16{0, 5, 60000}[rng.IntN(3)], UDP: []uint16{0, 5, 9000}[rng.IntN(3)]}
	if rng.IntN(2) == 0 {
		f.IP4 = netip.MustParseAddr("21.1.1.1")
	}
	if rng.IntN(2) == 0 {
		f.IP6, f.TCP6 = netip.MustParseAddr("2b00:1:2:3:4:5:6:7"), uint16(rng.IntN(2)*60000)
	}
	f.Capabilities = enr.Capabilities(rng.IntN(16))
	if n := []int{0, 1, 5, 40, 63, 64, 1000}[rng.IntN(7)]; n > 0 {
		all := make([]uint16, n)
		for i := range all {
			all[i] = uint16(i)
		}
		f.Shards, _ = sharding.NewSet(16, all...)
	}
	for range rng.IntN(6) {
		f.Multiaddrs = append(f.Multiaddrs, []ma.Multiaddr{
			ma.StringCast("/dns4/a/tcp/1"), ma.StringCast("/dns4/some-longer-name.example.org/tcp/443/wss"),
			ma.StringCast("/ip6/2b00:1:2:3:4:5:6:7/udp/4001/quic-v1"),
		}[rng.IntN(3)])
	}
	f.Multiaddrs = slices.Clip(f.Multiaddrs)
	return f
}
