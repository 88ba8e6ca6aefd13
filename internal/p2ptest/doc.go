// Package p2ptest is what tests of several nodes are made of: libp2p hosts
// on a network in memory, virtual time, an attacker who speaks gossipsub by
// hand, captured logs and a leak check. Only tests import it.
//
// # Virtual time
//
// Everything here works inside a testing/synctest bubble and settles there: when
// nothing is left to do, all goroutines of the hosts are durably blocked,
// synctest.Wait returns and the clock jumps to the next timer. The recipe:
//
//	func TestMain(m *testing.M) { p2ptest.Leaks(m) }
//
//	func TestSomething(t *testing.T) {
//		p2ptest.Bubble(t, func(t *testing.T) {
//			hosts := p2ptest.Hosts(t, 5)    // the bubble's t: hosts close before the bubble ends
//			a := mine.New(hosts[0])         // handlers first …
//			defer a.Close()
//			p2ptest.Ring(t, hosts)          // … then connections: when this returns, protocols are known
//			synctest.Wait()                 // all that follows from it has happened
//			time.Sleep(10 * time.Minute)    // takes no time; heartbeats, decay and back-off do happen
//		})
//	}
//
// What to know about it:
//
//   - Use Bubble, not synctest.Test: the race detector of Go 1.26 crashes when
//     goroutines of one bubble run on two processors (see Bubble).
//   - A bubble ends only when all its goroutines have: what a test starts it
//     must close, or have t.Cleanup close, inside. A goroutine forgotten is
//     reported as a deadlock, so every bubble is a leak check as well.
//   - Waiting for a mutex doesn't count as blocked. Code that holds a lock while
//     it waits for the network keeps the clock from moving.
//   - Channels, timers and contexts belong to the bubble they were made in.
//     Hosts can't be shared between tests.
//   - Sockets don't work in a bubble. TCPHosts is for tests in wall time.
//   - At the start the clock shows midnight UTC, 1 January 2000. Nothing takes
//     time by itself: without Config.Latency a whole flood of messages happens
//     at one instant, and rates come from the test's own Sleep. Connect and
//     Eventually may let a few milliseconds pass.
//
// # Why not mocknet or simlibp2p
//
// All three settle. go-libp2p's mocknet is the fastest, but its streams ignore
// deadlines, have no resource scopes and no buffers. x/simlibp2p runs real QUIC
// on simulated packets and is the most faithful, at two to four times the
// processor time. This package's hosts run the real swarm, upgrader, yamux and identify
// over pipes: deadlines, half-closed streams, flow control, resource limits,
// gaters and IP addresses behave as over TCP, and 50 hosts with 200
// connections take a third of a second (two to three under the race detector).
package p2ptest
