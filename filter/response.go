package filter

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

// The fields of FilterSubscribeResponse.
const (
	resID   protowire.Number = 1
	resCode protowire.Number = 10
	resDesc protowire.Number = 11
)

// maxResponse is the length of the longest response read or written, in bytes.
const maxResponse = 64 << 10

// notRead is the request id of an answer to a request that wasn't read. go-waku
// takes no empty one.
const notRead = "N/A"

// response is a FilterSubscribeResponse.
type response struct {
	id   string
	code StatusCode
	desc string
}

// append writes the response. All fields are always there: nwaku fails without the
// first two.
func (r response) append(b []byte) []byte {
	b = wire.AppendString(b, resID, r.id)
	b = wire.AppendVarint(b, resCode, uint64(r.code))
	return wire.AppendString(b, resDesc, r.desc)
}

// decodeResponse reads a response. Of each field the last counts, unknown ones are
// skipped. The error is ErrMalformed.
func decodeResponse(b []byte) (response, error) {
	var r response
	err := wire.Fields(b, func(f wire.Field) (err error) {
		switch f.Num {
		case resID:
			r.id, err = f.Text("request_id")
		case resCode:
			var v uint64
			v, err = f.Varint("status_code")
			r.code = StatusCode(min(v, math.MaxUint32))
		case resDesc:
			var b []byte
			b, err = f.Raw("status_desc")
			r.desc = reqresp.Printable(string(b[:min(len(b), reqresp.MaxWords)]))
		}
		return err
	})
	if err != nil {
		return response{}, err
	}
	return r, nil
}

// answers reports whether r is a response to the request of this id. Who didn't
// read the request doesn't know.
func (r response) answers(id string) bool {
	return r.id == id || r.id == "" || r.id == notRead
}
