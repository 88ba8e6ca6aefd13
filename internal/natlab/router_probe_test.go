//go:build nat && linux

package natlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// port is where machines inside listen in these tests.
const port = 4001

// silence is how long nothing must come to say that nothing does. Here a packet takes
// less than a millisecond.
const silence = 300 * time.Millisecond

// udp opens a UDP socket inside.
func (s *space) udp(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := s.Do(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		return err
	})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, from *net.UDPConn, to netip.AddrPort) {
	t.Helper()
	_, err := from.WriteToUDPAddrPort([]byte("hello"), to)
	require.NoError(t, err)
}

// heard waits for a packet, and returns whom it came from.
func heard(t *testing.T, c *net.UDPConn) (from netip.AddrPort, ok bool) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(silence)))
	_, from, err := c.ReadFromUDPAddrPort(make([]byte, 64))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return from, false
	}
	require.NoError(t, err)
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), true
}

// reuse lets one port listen and dial, as libp2p does.
func reuse(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	return errors.Join(err, controlErr)
}

// tcp listens inside, and hands out who comes.
func (s *space) tcp(t *testing.T, addr string) <-chan net.Conn {
	t.Helper()
	var l net.Listener
	err := s.Do(func() (err error) {
		l, err = (&net.ListenConfig{Control: reuse}).Listen(context.Background(), "tcp4", addr)
		return err
	})
	require.NoError(t, err)
	came := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			came <- c
		}
	}()
	t.Cleanup(func() { l.Close() })
	return came
}

// dial connects from the port that machines listen on.
func (s *space) dial(t *testing.T, from, to string, patience time.Duration) (net.Conn, error) {
	t.Helper()
	local, err := net.ResolveTCPAddr("tcp4", from)
	require.NoError(t, err)
	var c net.Conn
	err = s.Do(func() (err error) {
		c, err = (&net.Dialer{LocalAddr: local, Control: reuse, Timeout: patience}).Dial("tcp4", to)
		return err
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func at(ip string, port int) string { return fmt.Sprintf("%s:%d", ip, port) }

// place is where the n-th server of these tests listens.
func place(n int) string { return at(fmt.Sprintf("11.0.0.%d", n+2), 7000) }

// udpSeen is what servers see of a socket at home.
func udpSeen(t *testing.T, inside *net.UDPConn, servers ...*space) (seen []netip.AddrPort) {
	t.Helper()
	for n, s := range servers {
		outside := s.udp(t, place(n))
		send(t, inside, netip.MustParseAddrPort(place(n)))
		from, ok := heard(t, outside)
		require.True(t, ok, "what the home sends arrives")
		seen = append(seen, from)
	}
	return seen
}

// tcpSeen is what a server that listens at a place sees of the port that the home dials
// from.
func (h *home) tcpSeen(t *testing.T, came <-chan net.Conn, place string) netip.AddrPort {
	t.Helper()
	_, err := h.machine.dial(t, at(h.inside, port), place, time.Minute)
	require.NoError(t, err)
	return netip.MustParseAddrPort((<-came).RemoteAddr().String())
}

// The routers do what their names say.
func TestRouters(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			a, b := l.server(t, "a", "11.0.0.2"), l.server(t, "b", "11.0.0.3")
			h := l.home(t, "home", k, "11.1.0.1", "192.168.1.2")
			inside := h.machine.udp(t, at(h.inside, port))
			for network, seen := range map[string][]netip.AddrPort{
				"udp": udpSeen(t, inside, a, b),
				"tcp": {h.tcpSeen(t, a.tcp(t, place(0)), place(0)), h.tcpSeen(t, b.tcp(t, place(1)), place(1))},
			} {
				for _, s := range seen {
					assert.Equal(t, "11.1.0.1", s.Addr().String(), "nobody sees what is inside")
				}
				if k == symmetric {
					assert.NotEqual(t, seen[0].Port(), seen[1].Port(), "%s: each sees another port", network)
				} else {
					assert.Equal(t, []uint16{port, port}, []uint16{seen[0].Port(), seen[1].Port()}, network)
				}
			}

			friend, stranger := a.udp(t, "11.0.0.2:8000"), b.udp(t, "11.0.0.3:8000")
			sibling := a.udp(t, "11.0.0.2:8001") // at the friend's address, another port
			fresh := netip.AddrPortFrom(netip.MustParseAddr("11.1.0.1"), port+1)
			send(t, stranger, fresh)
			send(t, inside, netip.MustParseAddrPort("11.0.0.2:8000"))
			mapped, ok := heard(t, friend)
			require.True(t, ok)
			for from, passes := range map[*net.UDPConn]bool{
				friend: true, sibling: k == open || k == fullCone, stranger: k == open || k == fullCone,
			} {
				send(t, from, mapped)
				_, came := heard(t, inside)
				assert.Equal(t, passes, came, "from %s", from.LocalAddr())
			}

			if k == open {
				return
			}
			h.forget(t)
			require.Eventually(t, func() bool { // the kernel takes its time to forget
				send(t, friend, mapped)
				_, came := heard(t, inside)
				return !came
			}, time.Minute, time.Millisecond, "after its router has forgotten it the home isn't reached")
			send(t, inside, netip.MustParseAddrPort("11.0.0.2:8000"))
			again, ok := heard(t, friend)
			assert.True(t, ok)
			assert.Equal(t, "11.1.0.1", again.Addr().String())
			h.move(t, "11.1.0.9")
			require.Eventually(t, func() bool {
				send(t, inside, netip.MustParseAddrPort("11.0.0.2:8000"))
				moved, ok := heard(t, friend)
				return ok && moved.Addr().String() == "11.1.0.9"
			}, time.Minute, time.Millisecond)
		})
	}
}

// Who is behind which router can be reached by whom, when both sides begin at once:
// what hole punching must be able to do, and what it can't.
func TestPunchingByHand(t *testing.T) {
	t.Parallel()
	for i, one := range kinds {
		for _, other := range kinds[i:] {
			t.Run(fmt.Sprintf("%s and %s", one, other), func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				server := l.server(t, "server", "11.0.0.2")
				x := l.home(t, "x", one, "11.1.0.1", "192.168.1.2")
				y := l.home(t, "y", other, "11.2.0.1", "10.0.0.2")
				can := !hopeless(one, other)

				xc, yc := x.machine.udp(t, at(x.inside, port)), y.machine.udp(t, at(y.inside, port))
				outside := server.udp(t, place(0))
				seen := func(inside *net.UDPConn) netip.AddrPort {
					send(t, inside, netip.MustParseAddrPort(place(0)))
					from, ok := heard(t, outside)
					require.True(t, ok)
					return from
				}
				xs, ys := seen(xc), seen(yc)
				met := false
				for range 3 {
					send(t, xc, ys)
					send(t, yc, xs)
					_, ok := heard(t, xc)
					if !ok { // it may have been let in at the other side only
						var from netip.AddrPort
						if from, ok = heard(t, yc); ok {
							send(t, yc, from)
							_, ok = heard(t, xc)
						}
					}
					met = met || ok
				}
				assert.Equal(t, can, met, "UDP")
				if one == symmetric || other == symmetric {
					return // TCP: nobody punches that
				}

				came := server.tcp(t, place(0))
				xs, ys = x.tcpSeen(t, came, place(0)), y.tcpSeen(t, came, place(0))
				xl, yl := x.machine.tcp(t, at(x.inside, port)), y.machine.tcp(t, at(y.inside, port))
				dialled := make(chan error, 2)
				go func() { dialled <- x.machine.dialOnce(t, at(x.inside, port), ys.String()) }()
				go func() { dialled <- y.machine.dialOnce(t, at(y.inside, port), xs.String()) }()
				// Where one side is open to the other, one of them comes too late.
				for range 2 {
					select {
					case err := <-dialled:
						if err != nil {
							continue
						}
					case <-xl:
					case <-yl:
					}
					return
				}
				assert.Fail(t, "TCP")
			})
		}
	}
}

func (s *space) dialOnce(t *testing.T, from, to string) error {
	_, err := s.dial(t, from, to, time.Minute)
	return err
}
