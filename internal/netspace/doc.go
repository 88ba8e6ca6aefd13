// Package netspace gives tests machines of their own: network namespaces, without names
// and joined by virtual cables. libp2p exempts loopback from what it does about addresses,
// so that such rules can be tried only elsewhere.
//
// It needs Linux, root and the program ip; [Unable] says what is missing. The namespaces
// belong to the test process alone and end with it, however it ends. The machine's own
// network isn't touched. For tests only.
package netspace
