package enr_test

import (
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/sharding"
)

// decoded is what the vectors say about a record.
type decoded struct {
	Cluster      *uint16  `json:"cluster"`
	Shards       []uint16 `json:"shards"`
	IP           string   `json:"ip"`
	Keys         []string `json:"keys"`
	Multiaddrs   []string `json:"multiaddrs"`
	NodeID       string   `json:"node_id_hex"`
	PeerID       string   `json:"peer_id"`
	PublicKey    string   `json:"secp256k1_hex"`
	Seq          string   `json:"seq"`
	Size         int      `json:"size_bytes"`
	TCP          uint16   `json:"tcp"`
	UDP          uint16   `json:"udp"`
	Capabilities []string `json:"waku2_capabilities"`
}

type vectors struct {
	Decode []struct {
		ID       string `json:"id"`
		Input    struct{ ENR string }
		Expected decoded `json:"expected"`
	} `json:"decode"`
	Encode []struct {
		ID    string `json:"id"`
		Input struct {
			Pairs      map[string]string `json:"pairs_rlp_hex"`
			PrivateKey string            `json:"private_key_hex"`
			Seq        string            `json:"seq"`
		} `json:"input"`
		Expected struct {
			ENR     string  `json:"enr"`
			Decoded decoded `json:"decoded"`
		} `json:"expected"`
	} `json:"encode"`
	Reject []struct {
		ID    string `json:"id"`
		Input struct{ ENR string }
	} `json:"reject"`
}

func load(t *testing.T) (v vectors) {
	b, err := os.ReadFile("testdata/enr.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.Len(t, v.Decode, 26)
	require.Len(t, v.Encode, 6)
	require.Len(t, v.Reject, 3)
	return v
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func number(t *testing.T, s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	require.NoError(t, err)
	return n
}

func stringsOf(addrs []ma.Multiaddr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func (d decoded) check(t *testing.T, r *enr.Record) {
	t.Helper()
	require.Equal(t, d.Keys, r.Keys())
	require.Equal(t, d.NodeID, hex.EncodeToString(ptr(r.NodeID())[:]))
	require.Equal(t, d.PeerID, r.PeerID().String())
	require.Equal(t, d.PublicKey, hex.EncodeToString(r.PublicKey()))
	require.Equal(t, number(t, d.Seq), r.Seq())
	require.Len(t, r.Bytes(), d.Size)
	f := r.Fields()
	require.Equal(t, d.Seq, strconv.FormatUint(f.Seq, 10))
	if d.IP == "" {
		require.False(t, f.IP4.IsValid())
	} else {
		require.Equal(t, d.IP, f.IP4.String())
	}
	require.Equal(t, d.TCP, f.TCP)
	require.Equal(t, d.UDP, f.UDP)
	require.ElementsMatch(t, d.Multiaddrs, stringsOf(f.Multiaddrs))
	require.ElementsMatch(t, d.Capabilities, r.Capabilities().Names())
	shards, err := r.Shards()
	require.NoError(t, err)
	if d.Cluster != nil {
		require.Equal(t, *d.Cluster, shards.Cluster())
	}
	require.Equal(t, d.Shards, shards.Indices())
}

func ptr[T any](v T) *T { return &v }

func TestDecodeVectors(t *testing.T) {
	for _, v := range load(t).Decode {
		t.Run(v.ID, func(t *testing.T) {
			r, err := enr.Parse(v.Input.ENR)
			require.NoError(t, err)
			v.Expected.check(t, r)
			require.Equal(t, v.Input.ENR, r.String())
			again, err := enr.Decode(r.Bytes())
			require.NoError(t, err)
			require.Equal(t, r, again)
		})
	}
}

func TestRejectVectors(t *testing.T) {
	for _, v := range load(t).Reject {
		t.Run(v.ID, func(t *testing.T) {
			_, err := enr.Parse(v.Input.ENR)
			require.Error(t, err)
		})
	}
}

func privateKey(t testing.TB, s string) crypto.PrivKey {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	k, err := crypto.UnmarshalSecp256k1PrivateKey(b)
	require.NoError(t, err)
	return k
}

func TestEncodeVectors(t *testing.T) {
	for _, v := range load(t).Encode {
		t.Run(v.ID, func(t *testing.T) {
			key := privateKey(t, v.Input.PrivateKey)
			pairs := make(map[string][]byte)
			for k, x := range v.Input.Pairs {
				pairs[k] = unhex(t, x)
			}
			r, err := enr.SignPairs(key, number(t, v.Input.Seq), pairs)
			require.NoError(t, err)
			require.Equal(t, v.Expected.ENR, r.String())
			v.Expected.Decoded.check(t, r)

			// The same from what it means, except that a zero waku2 isn't written.
			d := v.Expected.Decoded
			f := enr.Fields{
				Seq: number(t, d.Seq), IP4: netip.MustParseAddr(d.IP), TCP: d.TCP, UDP: d.UDP,
				Capabilities: r.Capabilities(),
			}
			for _, a := range d.Multiaddrs {
				f.Multiaddrs = append(f.Multiaddrs, ma.StringCast(a))
			}
			if d.Cluster != nil {
				f.Shards, err = sharding.NewSet(*d.Cluster, d.Shards...)
				require.NoError(t, err)
			}
			built, err := enr.Build(key, f)
			require.NoError(t, err)
			if _, has := v.Input.Pairs["waku2"]; has && r.Capabilities() == 0 {
				require.NotContains(t, built.Keys(), "waku2")
				return
			}
			require.Equal(t, v.Expected.ENR, built.String())
		})
	}
}
