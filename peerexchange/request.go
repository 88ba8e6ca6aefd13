package peerexchange

import "google.golang.org/protobuf/encoding/protowire"

// The fields of PeerExchangeRPC and PeerExchangeQuery.
const (
	rpcQuery    protowire.Number = 1
	rpcResponse protowire.Number = 2

	queryPeers protowire.Number = 1
)

// appendQuery writes what a request consists of, and what an answer begins with,
// zero included.
func appendQuery(b []byte, peers uint64) []byte {
	b = appendLength(b, rpcQuery, sizeVarint(queryPeers, peers))
	return appendVarint(b, queryPeers, peers)
}

// decodeRequest reads how many peers are asked for. Of a field that occurs twice the
// last counts. Other fields are skipped, and so is the response that nwaku sends
// along.
func decodeRequest(b []byte) (peers uint64, err error) {
	var query []byte
	err = fields(b, func(f field) (err error) {
		if f.num == rpcQuery {
			query, err = f.raw("query")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if query == nil {
		return 0, malformed("there is no query")
	}
	err = fields(query, func(f field) (err error) {
		if f.num == queryPeers {
			peers, err = f.varint("num_peers")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return peers, nil
}
