package peerexchange

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

// The fields of PeerExchangeResponse and PeerInfo.
const (
	resPeers protowire.Number = 1
	resCode  protowire.Number = 10
	resDesc  protowire.Number = 11

	infoENR protowire.Number = 1
)

// response is an answer as it stands on the wire. It aliases what it was read from.
type response struct {
	code    StatusCode // never zero
	desc    string
	records [][]byte // empty: no record where there should be one
	more    int      // records beyond the limit
}

// appendResponse writes an answer. nwaku can't read one without a query.
func appendResponse(b []byte, r response) []byte {
	size := wire.SizeVarint(resCode, uint64(r.code))
	for _, e := range r.records {
		size += wire.SizeBytes(resPeers, wire.SizeBytes(infoENR, len(e)))
	}
	if r.desc != "" {
		size += wire.SizeBytes(resDesc, len(r.desc))
	}
	b = appendQuery(b, 0)
	b = wire.AppendLength(b, rpcResponse, size)
	for _, e := range r.records {
		b = wire.AppendLength(b, resPeers, wire.SizeBytes(infoENR, len(e)))
		b = append(wire.AppendLength(b, infoENR, len(e)), e...)
	}
	b = wire.AppendVarint(b, resCode, uint64(r.code))
	if r.desc != "" {
		b = wire.AppendString(b, resDesc, r.desc)
	}
	return b
}

// decodeResponse reads an answer with the first records of it, so many at most. Of a
// field that occurs twice the last counts. Other fields are skipped. The error is
// ErrMalformed.
func decodeResponse(b []byte, limit int) (response, error) {
	var inner []byte
	err := wire.Fields(b, func(f wire.Field) (err error) {
		if f.Num == rpcResponse {
			inner, err = f.Raw("response")
		}
		return err
	})
	if err == nil && inner == nil {
		err = wire.Malformed("there is no response")
	}
	if err != nil {
		return response{}, err
	}
	var (
		r    response
		desc []byte
	)
	err = wire.Fields(inner, func(f wire.Field) (err error) {
		var v uint64
		switch f.Num {
		case resPeers:
			var info []byte
			if info, err = f.Raw("peer_infos"); err != nil {
				break
			}
			if len(r.records) < limit {
				r.records = append(r.records, record(info))
			} else {
				r.more++
			}
		case resCode:
			v, err = f.Varint("status_code")
			r.code = StatusCode(min(v, math.MaxUint32))
		case resDesc:
			desc, err = f.Raw("status_desc")
		}
		return err
	})
	if err != nil {
		return response{}, err
	}
	r.desc = reqresp.Printable(string(desc[:min(len(desc), reqresp.MaxWords)]))
	if r.code == 0 { // go-waku and js-waku know none; the rule is nwaku's
		r.code = StatusSuccess
		if len(r.records) == 0 {
			r.code = StatusServiceUnavailable
		}
	}
	return r, nil
}

// record returns the record in a PeerInfo. One that can't be read spoils no others.
func record(info []byte) (enr []byte) {
	err := wire.Fields(info, func(f wire.Field) (err error) {
		if f.Num == infoENR {
			enr, err = f.Raw("enr")
		}
		return err
	})
	if err != nil {
		return nil
	}
	return enr
}
