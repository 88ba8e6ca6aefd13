//go:build soak && linux

package scorecard

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nodeTCP is nodeAddr for those who don't speak libp2p.
const nodeTCP = "10.0.0.1:30303"

// dial connects from the callers' first address.
func (cs *callers) dial() (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(cs.params.Addrs[0])}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp4", nodeTCP)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// abort connects n times and hangs up at once, without a word.
func (cs *callers) abort(n int) (done int) {
	for range n {
		c, err := cs.dial()
		if err != nil {
			continue
		}
		done++
		_ = c.SetLinger(0)
		c.Close()
	}
	return done
}

// begin begins n handshakes and leaves them so. It returns how many connected.
func (cs *callers) begin(n int) int {
	for range n {
		c, err := cs.dial()
		if err != nil {
			continue
		}
		_, _ = c.Write(opener("/noise"))
		cs.halves = append(cs.halves, c)
	}
	cs.begun = time.Now()
	return len(cs.halves)
}

// ended is what became of begun handshakes: how many had an answer, and after what time
// the node had hung up on the last.
type ended struct {
	Answered int
	After    time.Duration
}

func (cs *callers) ended() (r ended) {
	b := make([]byte, 256)
	for _, c := range cs.halves {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if got, err := c.Read(b); got > 0 {
			r.Answered++
			for err == nil {
				_, err = c.Read(b)
			}
		}
		c.Close()
	}
	r.After = time.Since(cs.begun)
	return r
}

// Row C3: a thousand connections that are broken off, a thousand handshakes that are
// never finished; after either an honest peer from the same address gets in at its
// first try, and nothing is left of them.
func TestSoakConnectionChurn(t *testing.T) {
	const crowd = 1000
	s := newStreet(t)
	node := s.node(nodeParams{})
	const where = "10.66.0.1"
	all := s.begin("caller", loadCPU, callerParams{IDs: 60, Addrs: []string{where}}, where)
	next := 0
	comes := func(t *testing.T, when string) {
		var r call
		all.ask("call", next, &r)
		next++
		t.Logf("an honest peer %s: after %v %s", when, r.Took.Round(time.Microsecond), r.Error)
		require.Empty(t, r.Error, "at its first try")
	}
	comes(t, "before all")
	all.ask("hangup", nil, new(int))
	time.Sleep(2 * time.Second)
	var before, after cost
	node.ask("cost", nil, &before)
	t.Log("before:", before)
	calm := func(t *testing.T) {
		all.ask("hangup", nil, new(int))
		time.Sleep(2 * time.Second)
		node.ask("cost", nil, &after)
		t.Log("after: ", after)
		require.LessOrEqual(t, after.Files, before.Files)
		require.LessOrEqual(t, after.Goroutines, before.Goroutines+5)
		require.Less(t, after.Heap, before.Heap+4<<20)
	}
	t.Run("aborted", func(t *testing.T) {
		var done int
		all.ask("abort", crowd, &done)
		t.Logf("%d of %d connections made and broken off", done, crowd)
		require.Equal(t, crowd, done)
		comes(t, "right afterwards")
		calm(t)
	})
	t.Run("half", func(t *testing.T) {
		var done int
		all.ask("begin", crowd, &done)
		require.Equal(t, crowd, done)
		comes(t, "while they hang")
		var r ended
		all.ask("ended", nil, &r)
		t.Logf("%d of %d handshakes begun, %d answered, the last ended after %v", done, crowd, r.Answered, r.After.Round(time.Millisecond))
		comes(t, "afterwards")
		calm(t)
	})
}
