// Benchmarks against libsecp256k1, which takes cgo: a module of its own, so that
// the SDK's doesn't.
module github.com/status-im/shoal/rln-free-dos/bench

go 1.26.0

require (
	github.com/decred/dcrd/dcrec/secp256k1/v4 v4.4.1
	github.com/ethereum/go-ethereum v1.16.3
	github.com/status-im/shoal v0.0.0
)

require google.golang.org/protobuf v1.36.12 // indirect

replace github.com/status-im/shoal => ../../
