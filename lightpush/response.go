package lightpush

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

// The fields of LightPushResponse, version 3, and of PushResponse, version 2.
const (
	resID    protowire.Number = 1
	resCode  protowire.Number = 10
	resDesc  protowire.Number = 11
	resPeers protowire.Number = 12

	legacySuccess protowire.Number = 1
	legacyInfo    protowire.Number = 2
)

// response is an answer in either version.
type response struct {
	id    string
	code  StatusCode
	desc  string
	peers int // -1: not said
}

// appendResponse writes a response of version 3. nwaku fails without the first two
// fields, and takes a success without the last for a failure.
func appendResponse(b []byte, r response) []byte {
	b = wire.AppendString(b, resID, r.id)
	b = wire.AppendVarint(b, resCode, uint64(r.code))
	b = wire.AppendString(b, resDesc, r.desc)
	if r.code == StatusSuccess {
		b = wire.AppendVarint(b, resPeers, uint64(max(r.peers, 0)))
	}
	return b
}

// appendLegacyResponse writes a response of version 2. go-waku needs the response to
// be there, nwaku its first field.
func appendLegacyResponse(b []byte, r response) []byte {
	success := protowire.EncodeBool(r.code == StatusSuccess)
	b = wire.AppendString(b, rpcID, r.id)
	b = wire.AppendLength(b, rpcResponse, protowire.SizeTag(legacySuccess)+1+wire.SizeBytes(legacyInfo, len(r.desc)))
	b = wire.AppendVarint(b, legacySuccess, success)
	return wire.AppendString(b, legacyInfo, r.desc)
}

// decodeResponse reads a response of version 3. Of a field that occurs twice the
// last counts. Unknown fields are skipped. The error is ErrMalformed.
func decodeResponse(b []byte) (response, error) {
	var (
		r    = response{peers: -1}
		desc []byte
	)
	err := wire.Fields(b, func(f wire.Field) (err error) {
		var v uint64
		switch f.Num {
		case resID:
			r.id, err = idOf(f)
		case resCode:
			v, err = f.Varint("status_code")
			r.code = StatusCode(min(v, math.MaxUint32))
		case resDesc:
			desc, err = f.Raw("status_desc")
		case resPeers:
			v, err = f.Varint("relay_peer_count")
			r.peers = int(min(v, math.MaxInt32))
		}
		return err
	})
	if err == nil && r.code == 0 {
		err = wire.Malformed("there is no status_code")
	}
	if err != nil {
		return response{}, err
	}
	r.desc = words(desc)
	return r, nil
}

// decodeLegacyResponse is decodeResponse for version 2. is_success may be absent,
// which go-waku means by false.
func decodeLegacyResponse(b []byte) (response, error) {
	var (
		r     = response{peers: -1}
		inner []byte
		info  []byte
		v     uint64
	)
	err := wire.Fields(b, func(f wire.Field) (err error) {
		switch f.Num {
		case rpcID:
			r.id, err = idOf(f)
		case rpcResponse:
			inner, err = f.Raw("response")
		}
		return err
	})
	if err == nil && inner == nil {
		err = wire.Malformed("there is no response")
	}
	if err == nil {
		err = wire.Fields(inner, func(f wire.Field) (err error) {
			switch f.Num {
			case legacySuccess:
				v, err = f.Varint("is_success")
			case legacyInfo:
				info, err = f.Raw("info")
			}
			return err
		})
	}
	if err != nil {
		return response{}, err
	}
	r.desc = words(info)
	if r.code = StatusSuccess; v == 0 {
		r.code = legacyCode(r.desc)
	}
	return r, nil
}

// words makes a description of what may be long, and isn't always text.
func words(b []byte) string { return reqresp.Printable(string(b[:min(len(b), reqresp.MaxWords)])) }
