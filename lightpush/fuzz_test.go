package lightpush_test

import (
	"bytes"
	"runtime"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
)

// schema is the protocol as its protobuf files describe it, for the Go library to
// judge by. What is nested is bytes here: of two, a library merges messages, and we
// take the last.
var schema = func() protoreflect.MessageDescriptors {
	field := func(name string, num int32, typ descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: &num, Type: &typ, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	msg := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
	}
	const (
		str  = descriptorpb.FieldDescriptorProto_TYPE_STRING
		raw  = descriptorpb.FieldDescriptorProto_TYPE_BYTES
		num  = descriptorpb.FieldDescriptorProto_TYPE_UINT32
		flag = descriptorpb.FieldDescriptorProto_TYPE_BOOL
	)
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("lightpush.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			msg("Request", field("request_id", 1, str), field("pubsub_topic", 20, str), field("message", 21, raw)),
			msg("Response", field("request_id", 1, str), field("status_code", 10, num), field("status_desc", 11, raw), field("relay_peer_count", 12, num)),
			msg("Rpc", field("request_id", 1, str), field("request", 2, raw), field("response", 3, raw)),
			msg("PushRequest", field("pubsub_topic", 1, str), field("message", 2, raw)),
			msg("PushResponse", field("is_success", 1, flag), field("info", 2, raw)),
		},
	}, nil)
	if err != nil {
		panic(err)
	}
	return f.Messages()
}()

// record is a message as the Go library reads it.
type record struct{ *dynamicpb.Message }

func recordOf(name string, b []byte) (record, error) {
	m := record{dynamicpb.NewMessage(schema.ByName(protoreflect.Name(name)))}
	return m, proto.Unmarshal(b, m)
}

func (r record) get(field string) protoreflect.Value {
	return r.Get(r.Descriptor().Fields().ByName(protoreflect.Name(field)))
}

// allocated is how many bytes f allocates, or something more.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func hostile() [][]byte {
	many := func(field string, n int) []byte { return bytes.Repeat(unhex(field), n) }
	return [][]byte{
		nil,
		many("0a0131", 100_000),
		many("0a026161", 75_000),
		many("0801", 150_000),
		many("a20101ff", 75_000),
		many("a00101", 100_000),
		many("1000", 150_000),
		many("1202ff01", 75_000),
		many("a306", 150_000),
		many("5a00", 8_000),
		many("5a03ffff1b", 3_000),
		bytes.Repeat([]byte{0xff}, 20),
	}
}

func FuzzRequest(f *testing.F)       { fuzzRequest(f, 3) }
func FuzzLegacyRequest(f *testing.F) { fuzzRequest(f, 2) }

func fuzzRequest(f *testing.F, version int) {
	for _, r := range loadVectors(f).Requests {
		f.Add(unhex(r.Hex))
	}
	for _, b := range hostile() {
		f.Add(b[:min(len(b), 2000)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := lightpush.RequestOf(version, b)
		require.LessOrEqual(t, len(r.ID), 256)
		require.True(t, utf8.ValidString(r.ID))
		if err != nil {
			require.ErrorIs(t, err, lightpush.ErrMalformed)
			return
		}
		theirs, inner := judge(t, version, b)
		require.Equal(t, theirs.get("request_id").String(), r.ID)
		require.Equal(t, inner.get("pubsub_topic").String(), r.Topic)
		require.True(t, bytes.Equal(inner.get("message").Bytes(), r.Message))

		m, err := message.Decode(r.Message)
		if err != nil {
			return
		}
		// A client would word it so, and be understood.
		again := lightpush.AppendRequest(version, r.ID, r.Topic, m)
		r2, err := lightpush.RequestOf(version, again)
		require.NoError(t, err)
		require.Equal(t, lightpush.Request{ID: r.ID, Topic: r.Topic, HasTopic: true, Message: append([]byte{}, m.Encode()...)}, r2)
	})
}

// judge lets the Go library read what we have read.
func judge(t *testing.T, version int, b []byte) (outer, inner record) {
	if version == 3 {
		outer, err := recordOf("Request", b)
		require.NoError(t, err)
		return outer, outer
	}
	outer, err := recordOf("Rpc", b)
	require.NoError(t, err)
	inner, err = recordOf("PushRequest", outer.get("request").Bytes())
	require.NoError(t, err)
	return outer, inner
}

func FuzzResponse(f *testing.F)       { fuzzResponse(f, 3) }
func FuzzLegacyResponse(f *testing.F) { fuzzResponse(f, 2) }

func fuzzResponse(f *testing.F, version int) {
	for _, r := range loadVectors(f).Responses {
		f.Add(unhex(r.Hex))
	}
	for _, b := range hostile() {
		f.Add(b[:min(len(b), 2000)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := lightpush.ResponseOf(version, b)
		if err != nil {
			require.ErrorIs(t, err, lightpush.ErrMalformed)
			require.Zero(t, r)
			return
		}
		require.LessOrEqual(t, len(r.ID), 256)
		require.LessOrEqual(t, len(r.Desc), 256)
		require.True(t, utf8.ValidString(r.Desc))
		require.NotZero(t, r.Code)
		require.GreaterOrEqual(t, r.Peers, -1)
		if version == 3 {
			theirs, err := recordOf("Response", b)
			require.NoError(t, err)
			require.Equal(t, theirs.get("request_id").String(), r.ID)
			if v := theirs.get("relay_peer_count").Uint(); uint64(r.Peers) != v && v != 0 {
				require.Contains(t, []int{1<<31 - 1}, r.Peers, "more than fits")
			}
		} else {
			outer, err := recordOf("Rpc", b)
			require.NoError(t, err)
			inner, err := recordOf("PushResponse", outer.get("response").Bytes())
			require.NoError(t, err)
			require.Equal(t, inner.get("is_success").Bool(), r.Code == lightpush.StatusSuccess)
		}
		r.Peers = max(r.Peers, 0)
		again := lightpush.AppendResponse(version, r)
		r2, err := lightpush.ResponseOf(version, again)
		require.NoError(t, err)
		if version == 2 || r.Code != lightpush.StatusSuccess {
			r.Peers = -1
		}
		require.Equal(t, r, r2)
	})
}

// What is read costs no more memory than a few times its length.
func TestDecodersAllocateLittle(t *testing.T) {
	const slack = 64 << 10
	for i, b := range hostile() {
		inner := append(protowire.AppendVarint([]byte{0x12}, uint64(len(b))), b...)
		for _, version := range []int{2, 3} {
			for _, in := range [][]byte{b, inner, slices.Concat([]byte{0x1a}, inner[1:])} {
				limit := uint64(4*len(in) + slack)
				require.LessOrEqual(t, allocated(func() { lightpush.RequestOf(version, in) }), limit, i)
				require.LessOrEqual(t, allocated(func() { lightpush.ResponseOf(version, in) }), limit, i)
			}
		}
	}
}
