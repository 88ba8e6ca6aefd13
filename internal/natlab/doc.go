// Package natlab holds no code but tests: nodes as processes of their own, behind real
// NATs. Each test builds a small internet of network namespaces: a segment with
// addresses of 11.0.0.0/8, which libp2p takes for public ones, and homes with 192.168.x
// and 10.x behind routers that translate addresses as the test asks (nftables).
//
// It needs Linux, root, and the programs ip and nft, and runs by "make test-nat" only:
// the tests have the build tag nat. The namespaces have no names and belong to the test
// process alone: they end with it, however it ends, and nothing of the machine's own
// network is touched.
//
// What a lab can't show: delays, losses, and routers that do what none of these does.
// It makes no claim about the internet.
package natlab
