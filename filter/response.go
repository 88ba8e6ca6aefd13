package filter

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
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
	b = appendString(b, resID, r.id)
	b = appendNumber(b, resCode, uint64(r.code))
	return appendString(b, resDesc, r.desc)
}

// decodeResponse reads a response. Of each field the last counts, unknown ones are
// skipped. The error is ErrMalformed.
func decodeResponse(b []byte) (response, error) {
	var r response
	err := fields(b, func(f field) (err error) {
		switch f.num {
		case resID:
			r.id, err = f.text("request_id")
		case resCode:
			var v uint64
			v, err = f.varint("status_code")
			r.code = StatusCode(min(v, math.MaxUint32))
		case resDesc:
			var b []byte
			b, err = f.raw("status_desc")
			r.desc = printable(string(b[:min(len(b), maxDesc)]))
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
