package rendezvous_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/rendezvous"
)

func TestBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := rendezvous.NewBudget(2, 5, 10)
	require.Equal(t, 5, b.Take("a", 100, now))
	require.Equal(t, 0, b.Take("a", 100, now.Add(-time.Hour)), "the clock may step back")
	require.Equal(t, 2, b.Take("a", 100, now.Add(time.Second)))
	require.Equal(t, 5, b.Take("a", 100, now.Add(time.Hour)))
	// All busy: those who don't fit in share a bucket.
	at := now.Add(time.Hour)
	for i := range 9 {
		require.Equal(t, 5, b.Take(fmt.Sprint(i), 5, at))
	}
	require.Equal(t, 10, b.Len())
	require.Equal(t, 5, b.Take("x", 100, at)+b.Take("y", 100, at))
	require.Equal(t, 10, b.Len())
	// Who is full again is forgotten.
	require.Equal(t, 5, b.Take("z", 100, at.Add(time.Minute)))
	require.Equal(t, 1, b.Len())
	require.Equal(t, 100, rendezvous.NewBudget(-1, 5, 10).Take("a", 100, now))
}

// An IPv4 address counts as one however it is written, and an IPv6 home.
func TestAddressKeys(t *testing.T) {
	key := func(s string) string { return rendezvous.AddressKey(netip.MustParseAddr(s)) }
	require.Equal(t, key("1.2.3.4"), key("::ffff:1.2.3.4"))
	require.NotEqual(t, key("1.2.3.4"), key("1.2.3.5"))
	require.Equal(t, key("2001:db8:1:2::1"), key("2001:db8:1:ff:1::"))
	require.NotEqual(t, key("2001:db8:1:2::1"), key("2001:db8:1:102::1"))
	require.Equal(t, key("fe80::1%eth0"), key("fe80::1%eth1"))
}
