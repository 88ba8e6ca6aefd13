package peerexchange

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
)

// The fields of PeerExchangeRPC and PeerExchangeQuery.
const (
	rpcQuery    protowire.Number = 1
	rpcResponse protowire.Number = 2

	queryPeers protowire.Number = 1
)

// appendQuery writes what a request consists of, and what an answer begins with,
// zero included.
func appendQuery(b []byte, peers uint64) []byte {
	b = wire.AppendLength(b, rpcQuery, wire.SizeVarint(queryPeers, peers))
	return wire.AppendVarint(b, queryPeers, peers)
}

// decodeRequest reads how many peers are asked for. Of a field that occurs twice the
// last counts. Other fields are skipped, and so is the response that nwaku sends
// along.
func decodeRequest(b []byte) (peers uint64, err error) {
	var query []byte
	err = wire.Fields(b, func(f wire.Field) (err error) {
		if f.Num == rpcQuery {
			query, err = f.Raw("query")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if query == nil {
		return 0, wire.Malformed("there is no query")
	}
	err = wire.Fields(query, func(f wire.Field) (err error) {
		if f.Num == queryPeers {
			peers, err = f.Varint("num_peers")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return peers, nil
}
