package store

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

// The fields of StoreQueryRequest.
const (
	reqID            protowire.Number = 1
	reqIncludeData   protowire.Number = 2
	reqPubsubTopic   protowire.Number = 10
	reqContentTopics protowire.Number = 11
	reqTimeStart     protowire.Number = 12
	reqTimeEnd       protowire.Number = 13
	reqHashes        protowire.Number = 20
	reqCursor        protowire.Number = 51
	reqForward       protowire.Number = 52
	reqLimit         protowire.Number = 53
)

// maxRequest is the length of the longest request read, in bytes. A hundred
// hashes take 3.4 KB; the rest is for content topics.
const maxRequest = 64 << 10

// request is a StoreQueryRequest. Nil pointers are fields that weren't there.
type request struct {
	id            string
	includeData   bool
	pubsubTopic   *string
	contentTopics []string
	start, end    *int64 // Unix nanoseconds
	hashes        []message.Hash
	cursor        *message.Hash
	forward       bool
	limit         *uint64
}

// newRequest words a question that Check has passed. All that some peer has a
// default of its own for is said.
func newRequest(id string, q Query) request {
	r := request{
		id:            id,
		includeData:   !q.HashesOnly,
		contentTopics: q.ContentTopics,
		hashes:        q.Hashes,
		cursor:        q.Cursor,
		forward:       !q.Backward,
		limit:         new(uint64(q.Limit)),
	}
	if q.Shard != nil {
		r.pubsubTopic = new(q.Shard.PubsubTopic())
	}
	if !q.Start.IsZero() {
		r.start = new(q.Start.UnixNano())
	}
	if !q.End.IsZero() {
		r.end = new(q.End.UnixNano())
	}
	return r
}

// query returns the question, as Check normalises it. The error is a
// *QueryError, or ErrUnknownCursor for the cursor that no message has.
func (r request) query() (Query, error) {
	q := Query{
		ContentTopics: r.contentTopics,
		Hashes:        r.hashes,
		Backward:      !r.forward,
		Cursor:        r.cursor,
		HashesOnly:    !r.includeData,
	}
	if r.pubsubTopic != nil {
		s, err := sharding.ParsePubsubTopic(*r.pubsubTopic)
		if err != nil {
			return Query{}, &QueryError{Field: "pubsub_topic", Reason: "is no static shard, /waku/2/rs/<cluster>/<shard>"}
		}
		q.Shard = &s
	}
	if r.start != nil {
		q.Start = time.Unix(0, *r.start)
	}
	if r.end != nil {
		q.End = time.Unix(0, *r.end)
	}
	if r.limit != nil {
		q.Limit = int(min(*r.limit, math.MaxInt32))
	}
	unknown := q.Cursor != nil && *q.Cursor == message.Hash{}
	if unknown {
		q.Cursor = nil
	}
	q, err := q.Check()
	if err == nil && unknown {
		err = ErrUnknownCursor
	}
	return q, err
}

// append writes the request, fields in the order of their numbers.
func (r request) append(b []byte) []byte {
	b = appendString(b, reqID, r.id)
	b = appendBool(b, reqIncludeData, r.includeData)
	if r.pubsubTopic != nil {
		b = appendString(b, reqPubsubTopic, *r.pubsubTopic)
	}
	for _, t := range r.contentTopics {
		b = appendString(b, reqContentTopics, t)
	}
	b = appendTime(b, reqTimeStart, r.start)
	b = appendTime(b, reqTimeEnd, r.end)
	for _, h := range r.hashes {
		b = appendBytes(b, reqHashes, h[:])
	}
	if r.cursor != nil {
		b = appendBytes(b, reqCursor, r.cursor[:])
	}
	b = appendBool(b, reqForward, r.forward)
	if r.limit != nil {
		b = protowire.AppendTag(b, reqLimit, protowire.VarintType)
		b = protowire.AppendVarint(b, *r.limit)
	}
	return b
}

// decodeRequest reads a request. Beside the error it returns what it could read,
// the id above all. Of a field that may occur once the last counts; criteria that
// occur twice count once, and too many of them are an error before they cost
// anything. Unknown fields are skipped.
func decodeRequest(b []byte) (request, error) {
	var (
		r     request
		wrong error // the first thing wrong that doesn't keep us from reading on
	)
	for len(b) > 0 {
		f, n := consumeField(b)
		if n < 0 {
			return r, cmp.Or(wrong, wire.Malformed("%v", protowire.ParseError(n)))
		}
		b = b[n:]
		if wrong == nil || f.num == reqID {
			wrong = cmp.Or(wrong, r.set(f))
		}
	}
	return r, wrong
}

func (r *request) set(f field) (err error) {
	switch f.num {
	case reqID:
		var id string
		if id, err = f.text("request_id"); err == nil {
			r.id = id
		}
	case reqIncludeData:
		r.includeData, err = f.flag("include_data")
	case reqPubsubTopic:
		var t string
		t, err = f.text("pubsub_topic")
		r.pubsubTopic = &t
	case reqContentTopics:
		var t string
		if t, err = f.text("content_topics"); err == nil && !slices.Contains(r.contentTopics, t) {
			if len(r.contentTopics) == MaxContentTopics {
				return &QueryError{Field: "content_topics", Reason: fmt.Sprintf("are more than %d", MaxContentTopics)}
			}
			r.contentTopics = append(r.contentTopics, t)
		}
	case reqTimeStart:
		r.start, err = f.time("time_start")
	case reqTimeEnd:
		r.end, err = f.time("time_end")
	case reqHashes:
		var h message.Hash
		if h, err = f.hash("message_hashes"); err == nil && !slices.Contains(r.hashes, h) {
			if len(r.hashes) == MaxHashes {
				return &QueryError{Field: "message_hashes", Reason: fmt.Sprintf("are more than %d", MaxHashes)}
			}
			r.hashes = append(r.hashes, h)
		}
	case reqCursor:
		var h message.Hash
		h, err = f.hash("pagination_cursor")
		r.cursor = &h
	case reqForward:
		r.forward, err = f.flag("pagination_forward")
	case reqLimit:
		var v uint64
		v, err = f.varint("pagination_limit")
		r.limit = &v
	}
	return err
}

// field is one field as it stands on the wire.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	value uint64 // of a varint
	bytes []byte // of a length and bytes; aliases the input
}

// consumeField reads the first field of b, or returns protowire's error code.
func consumeField(b []byte) (field, int) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, n
	}
	f, m := field{num: num, typ: typ}, 0
	switch typ {
	case protowire.VarintType:
		f.value, m = protowire.ConsumeVarint(b[n:])
	case protowire.BytesType:
		f.bytes, m = protowire.ConsumeBytes(b[n:])
	default:
		m = protowire.ConsumeFieldValue(num, typ, b[n:])
	}
	if m < 0 {
		return field{}, m
	}
	return f, n + m
}

func (f field) varint(name string) (uint64, error) {
	if f.typ != protowire.VarintType {
		return 0, wire.Malformed("%s is no number", name)
	}
	return f.value, nil
}

func (f field) flag(name string) (bool, error) {
	v, err := f.varint(name)
	return v != 0, err
}

func (f field) time(name string) (*int64, error) {
	v, err := f.varint(name)
	if err != nil {
		return nil, err
	}
	return new(protowire.DecodeZigZag(v)), nil
}

func (f field) raw(name string) ([]byte, error) {
	if f.typ != protowire.BytesType {
		return nil, wire.Malformed("%s has no length", name)
	}
	return f.bytes, nil
}

func (f field) text(name string) (string, error) {
	b, err := f.raw(name)
	if err == nil && !utf8.Valid(b) {
		err = wire.Malformed("%s is not UTF-8", name)
	}
	if err != nil {
		return "", err
	}
	return string(b), nil
}

func (f field) hash(name string) (h message.Hash, err error) {
	b, err := f.raw(name)
	if err == nil && len(b) != len(h) {
		err = wire.Malformed("%s: a hash has %d bytes, not %d", name, len(h), len(b))
	}
	if err == nil {
		copy(h[:], b)
	}
	return h, err
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func appendBool(b []byte, num protowire.Number, v bool) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), protowire.EncodeBool(v))
}

func appendTime(b []byte, num protowire.Number, t *int64) []byte {
	if t == nil {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.VarintType)
	return protowire.AppendVarint(b, protowire.EncodeZigZag(*t))
}
