package waku_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// callers is a listener to whom the test brings connections.
type callers struct {
	manet.Listener
	c chan manet.Conn
}

func (l *callers) Accept() (manet.Conn, error) {
	if c, ok := <-l.c; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// from is a connection from an address.
type from struct {
	net.Conn
	at ma.Multiaddr
}

func (f *from) LocalMultiaddr() ma.Multiaddr  { return f.at }
func (f *from) RemoteMultiaddr() ma.Multiaddr { return f.at }

// guest is somebody at the door: his end, and the node's.
type guest struct {
	net.Conn
	theirs manet.Conn
	scope  network.ConnManagementScope
}

// doorOf is a node's door, and how to come to it.
func doorOf(t *testing.T, conns, perIP int) (d *waku.Doorstep, comes func(at string) *guest) {
	d = waku.NewDoorstep(t, conns, perIP)
	l := &callers{c: make(chan manet.Conn)}
	t.Cleanup(func() { close(l.c) })
	gated := d.Gate(l)
	accepted := make(chan *guest)
	go func() {
		for {
			c, scope, err := gated.Accept()
			if err != nil {
				return
			}
			accepted <- &guest{theirs: c, scope: scope}
		}
	}()
	return d, func(at string) *guest {
		mine, theirs := net.Pipe()
		t.Cleanup(func() { mine.Close() })
		l.c <- &from{theirs, ma.StringCast(at)}
		synctest.Wait()
		select {
		case g := <-accepted:
			g.Conn = mine
			return g
		default:
			return nil
		}
	}
}

const hello = "\x13/multistream/1.0.0\n\x07/noise\n"

// says tells what the node has read after a while of what a guest says.
func (g *guest) says(text string) (heard string, err error) {
	go g.Write([]byte(text))
	b := make([]byte, len(text))
	n, err := io.ReadFull(g.theirs, b)
	return string(b[:n]), err
}

// Whoever stands at the door longest makes room for who comes from the same address, or
// from another one if there is no room at all; who is known stays.
func TestDoorstepHasRoom(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		d, comes := doorOf(t, 30, 3)
		var all []*guest
		for i := range 4 {
			all = append(all, comes(fmt.Sprintf("/ip4/20.0.0.1/tcp/%d", i+1)))
			require.NotNil(t, all[i])
		}
		gone := func(g *guest) bool {
			g.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := g.Read(make([]byte, 1))
			return err == io.EOF
		}
		require.True(t, gone(all[0]))
		for _, g := range all[1:] {
			require.False(t, gone(g))
			d.Known(g.theirs.RemoteMultiaddr())
		}
		require.Zero(t, d.Len())
		require.Nil(t, comes("/ip4/20.0.0.1/tcp/9"), "three members live there")
		for i := range 17 { // all that others may take
			require.NotNil(t, comes(fmt.Sprintf("/ip4/20.0.1.%d/tcp/1", i)))
		}
		require.Equal(t, 17, d.Len())
		require.NotNil(t, comes("/ip4/20.0.2.1/tcp/1"), "one of those at the door has gone")
		require.Equal(t, 17, d.Len())
		all[1].theirs.Close()
		all[1].scope.Done()
		require.NotNil(t, comes("/ip4/20.0.0.1/tcp/10"))
		require.NotNil(t, comes("/ip6/2001:db8::1/tcp/1"))
		require.NotNil(t, comes("/ip6/2001:db8::2/tcp/1/ws"))
		d.Known(ma.StringCast("/ip6/2001:db8::2/tcp/1/ws"))
		require.Equal(t, 17, d.Len())
	})
}

// Who hangs up before the handshake costs his neighbours nothing. Who goes on with it
// is one of four for each connection a minute, and waits if he isn't.
func TestDoorstepCountsHandshakes(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		const perIP = 3
		_, comes := doorOf(t, 30, perIP)
		for i := range 1000 {
			g := comes(fmt.Sprintf("/ip4/20.0.0.1/tcp/%d", i+1))
			require.NotNil(t, g, "%d", i)
			if i%2 == 0 {
				heard, err := g.says(hello)
				require.NoError(t, err)
				require.Equal(t, hello, heard)
			}
			require.NoError(t, g.Close())
			if i%3 > 0 {
				g.theirs.Close()
				g.scope.Done()
			}
		}
		greets := func(i int) time.Duration {
			g := comes(fmt.Sprintf("/ip4/20.0.0.1/tcp/%d", 2000+i))
			require.NotNil(t, g)
			_, err := g.says(hello)
			require.NoError(t, err)
			began := time.Now()
			heard, err := g.says("noise")
			require.NoError(t, err)
			require.Equal(t, "noise", heard)
			g.theirs.Close()
			g.scope.Done()
			return time.Since(began)
		}
		for i := range 4 * perIP {
			require.Zero(t, greets(i), "%d", i)
		}
		for i := range 10 {
			waited := greets(100 + i)
			require.Greater(t, waited, 4*time.Second)
			require.Less(t, waited, 6*time.Second)
		}
		g := comes("/ip4/20.0.0.1/tcp/3000") // whose patience has an end
		_, err := g.says(hello)
		require.NoError(t, err)
		time.AfterFunc(time.Second, func() { g.theirs.Close() })
		_, err = g.says("noise")
		require.Error(t, err)
	})
}
