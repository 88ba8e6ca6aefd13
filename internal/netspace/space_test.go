//go:build linux

package netspace_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/netspace"
)

// Two machines hear each other by the addresses they were given.
func TestMachines(t *testing.T) {
	if why := netspace.Unable(); why != "" {
		t.Skip(why) // what needs them fails; this is about the tool
	}
	street := netspace.NewSegment(t, 8)
	a := street.Machine(t, "a", "10.0.0.1")
	b := street.Machine(t, "b", "10.0.1.1", "10.0.1.2")
	var l net.Listener
	require.NoError(t, a.Do(func() (err error) {
		l, err = net.Listen("tcp4", "10.0.0.1:0")
		return err
	}))
	defer l.Close()
	for _, from := range []string{"10.0.1.1", "10.0.1.2"} {
		var c net.Conn
		require.NoError(t, b.Do(func() (err error) {
			c, err = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp4", l.Addr().String())
			return err
		}))
		got, err := l.Accept()
		require.NoError(t, err)
		require.Equal(t, from, got.RemoteAddr().(*net.TCPAddr).IP.String())
		require.NoError(t, got.Close())
		require.NoError(t, c.Close())
	}
}
