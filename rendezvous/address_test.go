package rendezvous_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/rendezvous"
)

// An IPv4 address counts as one however it is written, and an IPv6 home.
func TestAddressKeys(t *testing.T) {
	key := func(s string) string { return rendezvous.AddressKey(netip.MustParseAddr(s)) }
	require.Equal(t, key("1.2.3.4"), key("::ffff:1.2.3.4"))
	require.NotEqual(t, key("1.2.3.4"), key("1.2.3.5"))
	require.Equal(t, key("2001:db8:1:2::1"), key("2001:db8:1:ff:1::"))
	require.NotEqual(t, key("2001:db8:1:2::1"), key("2001:db8:1:102::1"))
	require.Equal(t, key("fe80::1%eth0"), key("fe80::1%eth1"))
}
