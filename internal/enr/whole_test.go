package enr_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
)

func TestWhole(t *testing.T) {
	good := addrs("/dns4/a/tcp/1")[0].Bytes()
	for name, c := range map[string]struct {
		value []byte
		want  bool
	}{
		"none":                 {entries(), true},
		"two":                  {entries(good, addrs("/dns4/b/tcp/443/wss")[0].Bytes()), true},
		"relay":                {entries(addrs("/ip4/20.0.0.9/tcp/1/p2p/OTHER")[0].Bytes()), true},
		"unparsable in front":  {entries([]byte{0xff, 0xff, 0xff, 1}, good), false},
		"unparsable behind":    {entries(good, []byte{4, 1}), false},
		"empty entry":          {entries(nil, good), false},
		"longer than the rest": {enr.RLPBytes(append([]byte{0, 200}, good...)), false},
		"half a length":        {enr.RLPBytes(append(append([]byte{0, byte(len(good))}, good...), 0)), false},
		"not a byte string":    {[]byte{0xc1, 0x01}, false},
	} {
		require.Equal(t, c.want, signed(t, map[string][]byte{"multiaddrs": c.value}).Whole(), name)
	}

	ip4, ip6 := netip.MustParseAddr("20.1.2.3"), netip.MustParseAddr("2a00::1")
	lan := netip.MustParseAddr("192.168.0.3")
	for _, c := range []struct {
		fields enr.Fields
		want   bool
	}{
		{enr.Fields{}, true},
		{enr.Fields{IP4: ip4, TCP: 1}, true},
		{enr.Fields{IP4: lan, TCP: 1}, true},
		{enr.Fields{TCP: 1}, false},
		{enr.Fields{TCP6: 1}, true},
		{enr.Fields{IP4: netip.MustParseAddr("224.0.0.1"), TCP: 1}, false},
		{enr.Fields{IP6: ip6, TCP6: 1}, true},
		{enr.Fields{IP6: ip6, TCP: 1}, false},
		{enr.Fields{IP6: ip6, TCP: 1, TCP6: 1}, true},
		{enr.Fields{IP4: ip4, IP6: ip6, TCP: 1}, true},
		{enr.Fields{IP4: lan, IP6: ip6, TCP: 1}, false},
		{enr.Fields{IP4: lan, IP6: ip6, TCP: 1, TCP6: 1}, true},
	} {
		require.Equal(t, c.want, build(t, c.fields).Whole(), "%+v", c.fields)
	}

	// All that the networks publish is.
	var v struct {
		Decode []struct {
			ID    string
			Input struct{ ENR string }
		}
	}
	b, err := os.ReadFile("testdata/enr.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	for _, c := range v.Decode {
		r, err := enr.Parse(c.Input.ENR)
		require.NoError(t, err)
		require.True(t, r.Whole(), "%s %v %+v", c.ID, r.Addrs(), r.Fields())
	}
}
