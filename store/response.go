package store

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
)

// The fields of StoreQueryResponse and of WakuMessageKeyValue.
const (
	resID       protowire.Number = 1
	resCode     protowire.Number = 10
	resDesc     protowire.Number = 11
	resMessages protowire.Number = 20
	resCursor   protowire.Number = 51

	kvHash        protowire.Number = 1
	kvMessage     protowire.Number = 2
	kvPubsubTopic protowire.Number = 3
)

// hashSize is the length of a hash as a field: tag, length, 32 bytes.
const hashSize = 1 + 1 + len(message.Hash{})

// appendResponse writes a response. The first three fields are always there: nwaku
// and js-waku fail without them. A page of a question with HashesOnly has no
// messages.
func appendResponse(b []byte, id string, code StatusCode, desc string, page Page) []byte {
	b = appendString(b, resID, id)
	b = protowire.AppendTag(b, resCode, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(code))
	b = appendString(b, resDesc, desc)
	for _, e := range page.Entries {
		b = appendKeyValue(b, e)
	}
	if page.Cursor != nil {
		b = appendBytes(b, resCursor, page.Cursor[:])
	}
	return b
}

// responseSize is enough room for appendResponse.
func responseSize(id, desc string, page Page) int {
	n := len(id) + len(desc) + 64
	for _, e := range page.Entries {
		n += 8 + hashSize
		if e.Message != nil {
			n += e.Message.Size() + 64
		}
	}
	return n
}

func appendKeyValue(b []byte, e Entry) []byte {
	var (
		topic string
		size  int // of the message
		n     = hashSize
	)
	if e.Message != nil {
		topic, size = e.Shard.PubsubTopic(), e.Message.Size()
		n += 1 + protowire.SizeBytes(size) + 1 + protowire.SizeBytes(len(topic))
	}
	b = protowire.AppendTag(b, resMessages, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	b = appendBytes(b, kvHash, e.Hash[:])
	if e.Message != nil {
		b = protowire.AppendTag(b, kvMessage, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(size))
		b = e.Message.AppendTo(b)
		b = appendString(b, kvPubsubTopic, topic)
	}
	return b
}

// response is a StoreQueryResponse. Nil slices are fields that weren't there.
type response struct {
	id      string
	code    StatusCode
	desc    string
	entries []keyValue
	cursor  *message.Hash
}

// keyValue is a WakuMessageKeyValue; it aliases what it was read from.
type keyValue struct {
	hash    message.Hash
	hasHash bool
	message []byte // encoded
	topic   []byte
}

// decodeResponse reads a response of no more than limit entries. Of a field that
// may occur once the last counts. Unknown fields are skipped. The error is
// ErrMalformed or ErrTooMany.
func decodeResponse(b []byte, limit int) (response, error) {
	var r response
	for len(b) > 0 {
		f, n := consumeField(b)
		if n < 0 {
			return response{}, wire.Malformed("%v", protowire.ParseError(n))
		}
		b = b[n:]
		if err := r.set(f, limit); err != nil {
			return response{}, err
		}
	}
	return r, nil
}

func (r *response) set(f field, limit int) (err error) {
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
		r.desc = reqresp.Printable(string(b[:min(len(b), reqresp.MaxWords)]))
	case resMessages:
		var b []byte
		if b, err = f.raw("messages"); err != nil {
			return err
		}
		if len(r.entries) >= limit {
			return ErrTooMany
		}
		var kv keyValue
		if kv, err = decodeKeyValue(b); err == nil {
			r.entries = append(r.entries, kv)
		}
	case resCursor:
		var h message.Hash
		h, err = f.hash("pagination_cursor")
		r.cursor = &h
	}
	return err
}

func decodeKeyValue(b []byte) (kv keyValue, err error) {
	for len(b) > 0 {
		f, n := consumeField(b)
		if n < 0 {
			return keyValue{}, wire.Malformed("entry: %v", protowire.ParseError(n))
		}
		b = b[n:]
		switch f.num {
		case kvHash:
			kv.hash, err = f.hash("message_hash")
			kv.hasHash = true
		case kvMessage:
			kv.message, err = f.raw("message")
		case kvPubsubTopic:
			kv.topic, err = f.raw("pubsub_topic")
		}
		if err != nil {
			return keyValue{}, err
		}
	}
	if !kv.hasHash {
		return keyValue{}, wire.Malformed("an entry has no hash")
	}
	return kv, nil
}
