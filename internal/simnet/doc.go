// Package simnet is a network in memory for thousands of hosts, to see what a relay
// costs at full size: every host is a host.Host, every node on it runs the code that
// ships, in virtual time (testing/synctest).
//
// It is the large room beside p2ptest, which is the faithful one. There, real swarms,
// yamux and identify run over pipes, and fifty hosts are many. Here a stream is a
// queue, a connection has no goroutine of its own, and ten thousand hosts fit into one
// process; in return a host can do no more than a relay needs: connect, open streams
// of known protocols, tell who speaks what. Protocols are tested in p2ptest; cost,
// speed and survival of many in simnet.
//
// # What it models
//
//   - Latency of each pair: hosts stand on a globe, and each has a last mile.
//   - The uplink: what a host sends leaves one after another, at its rate. A writer
//     waits while more than [Line.Buffer] is before him.
//   - The downlink: what arrives is taken in the order of arrival, at its rate.
//   - Loss: a lost packet is sent again, is counted again, and whatever follows it on
//     the connection waits.
//   - Death without a word ([Network.Kill]): nothing goes in or out any more, and
//     peers notice after a while. Partitions ([Network.Split], [Network.Heal]).
//   - Bytes: exactly those that the router writes to its streams, by what they are
//     ([Class]), and apart from them what a transport adds ([Transport]).
//
// Arrivals are carried out in ticks ([Config.Tick]): all of one millisecond together,
// in the order of their arrival. What happens within a tick happens in the order that
// Go's scheduler likes, and the router itself draws lots, so that a seed fixes
// topology and load but not every message's way: state results with their spread.
//
// # What it leaves out
//
// Handshakes, identify and stream negotiation take their round trips and are counted
// with a constant. There is no discovery, no encryption, no resource manager, no NAT.
package simnet
