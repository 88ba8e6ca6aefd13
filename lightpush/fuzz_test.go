package lightpush_test

import (
	"bytes"
	"errors"
	"math"
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

func recordOf(t *testing.T, name string, b []byte) record {
	m := record{dynamicpb.NewMessage(schema.ByName(protoreflect.Name(name)))}
	err := proto.Unmarshal(b, m)
	check(t, err == nil, "the library can't read it: %v", err)
	return m
}

func (r record) get(field string) protoreflect.Value {
	return r.Get(r.Descriptor().Fields().ByName(protoreflect.Name(field)))
}

// check is require.True, but costs nothing: fuzzing lives on speed.
func check(t *testing.T, ok bool, format string, args ...any) {
	if !ok {
		t.Helper()
		t.Fatalf(format, args...)
	}
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
		many("0a01ff", 100_000),
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
		check(t, len(r.ID) <= 256 && utf8.ValidString(r.ID), "an id of %d bytes", len(r.ID))
		if err != nil {
			check(t, errors.Is(err, lightpush.ErrMalformed), "%v", err)
			return
		}
		var outer, inner record
		if version == 2 {
			outer = recordOf(t, "Rpc", b)
			inner = recordOf(t, "PushRequest", outer.get("request").Bytes())
		} else {
			outer = recordOf(t, "Request", b)
			inner = outer
		}
		check(t, outer.get("request_id").String() == r.ID, "the id is %q", r.ID)
		check(t, inner.get("pubsub_topic").String() == r.Topic, "the topic is %q", r.Topic)
		check(t, bytes.Equal(inner.get("message").Bytes(), r.Message), "the message is %x", r.Message)

		m, err := message.Decode(r.Message)
		if err != nil {
			return
		}
		// A client would word it so, and be understood.
		r2, err := lightpush.RequestOf(version, lightpush.AppendRequest(version, r.ID, r.Topic, m))
		check(t, err == nil && r2.HasTopic && r2.ID == r.ID && r2.Topic == r.Topic && bytes.Equal(r2.Message, m.Encode()),
			"written anew: %+v, %v", r2, err)
	})
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
			check(t, errors.Is(err, lightpush.ErrMalformed) && r == lightpush.Response{}, "%+v, %v", r, err)
			return
		}
		check(t, len(r.ID) <= 256 && len(r.Desc) <= 256 && utf8.ValidString(r.ID+r.Desc) && r.Code != 0 && r.Peers >= -1, "%+v", r)
		if version == 3 {
			theirs := recordOf(t, "Response", b)
			check(t, theirs.get("request_id").String() == r.ID, "the id is %q", r.ID)
			peers := theirs.get("relay_peer_count").Uint() // 32 bits of it
			check(t, r.Peers == math.MaxInt32 || uint64(max(r.Peers, 0)) == peers, "%d peers", peers)
		} else {
			inner := recordOf(t, "PushResponse", recordOf(t, "Rpc", b).get("response").Bytes())
			check(t, inner.get("is_success").Bool() == (r.Code == lightpush.StatusSuccess), "code %d", r.Code)
		}
		r.Peers = max(r.Peers, 0)
		r2, err := lightpush.ResponseOf(version, lightpush.AppendResponse(version, r))
		if version == 2 || r.Code != lightpush.StatusSuccess {
			r.Peers = -1
		}
		check(t, err == nil && r2 == r, "written anew: %+v, %v", r2, err)
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
