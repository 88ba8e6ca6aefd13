package message_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/status-im/shoal/message"
)

func TestDecodeDamaged(t *testing.T) {
	plain := "0a0161120162"
	for _, tc := range []struct {
		name, in string
		offset   int
		cause    error // nil: any
	}{
		{"half a tag", plain + "aa", 6, io.ErrUnexpectedEOF},
		{"tag alone", plain + "0a", 6, io.ErrUnexpectedEOF},
		{"length beyond the end", "0a0261", 0, io.ErrUnexpectedEOF},
		{"topic beyond the end", plain + "120562", 6, io.ErrUnexpectedEOF},
		{"huge length", plain + "5affffffffffffffffff01", 6, io.ErrUnexpectedEOF},
		{"length overflows", plain + "5affffffffffffffffff02", 6, nil},
		{"cut varint", plain + "5080", 6, io.ErrUnexpectedEOF},
		{"varint of eleven bytes", plain + "1880808080808080808080" + "00", 6, nil},
		{"field number 0", plain + "0000", 6, nil},
		{"field number above 2^29-1", plain + "808080801000", 6, nil},
		{"field number of 61 bits", plain + "f8ffffffffffffffff0100", 6, nil},
		{"wire type 6", plain + "0e", 6, nil},
		{"wire type 7", plain + "0f", 6, nil},
		{"cut fixed32", plain + "25000000", 6, io.ErrUnexpectedEOF},
		{"cut fixed64", plain + "2100000000000000", 6, io.ErrUnexpectedEOF},
		{"cut unknown bytes", plain + "220200", 6, io.ErrUnexpectedEOF},
		{"group never ends", plain + "23", 6, io.ErrUnexpectedEOF},
		{"group ends as another", plain + "232c", 6, nil},
		{"end of no group", plain + "24", 6, nil},
		{"damage in a group", plain + "230a0224", 6, io.ErrUnexpectedEOF},
		{"wire type 7 in a group", plain + "230f24", 6, nil},
		{"topic not UTF-8", "120162" + "1201ff", 3, message.ErrContentTopicUTF8},
		{"only the first topic not UTF-8", "1201ff" + "120162", 0, message.ErrContentTopicUTF8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in, err := hex.DecodeString(tc.in)
			require.NoError(t, err)
			m, err := message.Decode(in)
			require.Nil(t, m)
			var damage *message.DecodeError
			require.ErrorAs(t, err, &damage)
			assert.ErrorIs(t, err, message.ErrMalformed)
			assert.Equal(t, tc.offset, damage.Offset)
			assert.Contains(t, err.Error(), "malformed at byte")
			if tc.cause != nil {
				assert.ErrorIs(t, err, tc.cause)
			}
			assert.Error(t, reference(in, nil), "the protobuf library refuses it as well")
		})
	}
}

func TestDecodeTolerant(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     message.Message
	}{
		{"nothing", "", message.Message{}},
		{"last value counts", "0a01611801" + "0a01621800", message.Message{Payload: []byte("b"), Explicit: message.FieldVersion}},
		{"last topic counts", "120161" + "1200", message.Message{}},
		{"version loses upper bits", "188180808010", message.Message{Version: 1}},
		{"any number is true", "f8018002", message.Message{Ephemeral: true}},
		{"lowest timestamp", "50ffffffffffffffffff01", message.Message{Timestamp: math.MinInt64}},
		{"highest timestamp", "50feffffffffffffffff01", message.Message{Timestamp: math.MaxInt64}},
		{"long forms of small numbers", "8a00810061" + "98808080008100", message.Message{Payload: []byte("a"), Version: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in, err := hex.DecodeString(tc.in)
			require.NoError(t, err)
			m, err := message.Decode(in)
			require.NoError(t, err)
			require.NoError(t, reference(in, m))
			clean, err := message.Decode(m.Encode()) // forgets what was repeated
			require.NoError(t, err)
			assert.Equal(t, &tc.want, clean)
		})
	}
}

// Groups nest as deep as the protobuf library allows, and no deeper.
func TestDecodeGroupDepth(t *testing.T) {
	nested := func(depth int) []byte {
		b := bytes.Repeat([]byte{0x23}, depth)
		return append(b, bytes.Repeat([]byte{0x24}, depth)...)
	}
	for _, depth := range []int{1, 15, 16, 17, 1000, 9999, 10000, 10001} {
		m, err := message.Decode(nested(depth))
		require.NoError(t, err, depth)
		require.NoError(t, reference(nested(depth), m), depth)
		require.ErrorIs(t, m.Strict(), message.ErrUnknownField)
	}
	for _, depth := range []int{10002, 10003, 500_000} {
		_, err := message.Decode(nested(depth))
		require.ErrorIs(t, err, message.ErrMalformed, depth)
		require.Error(t, reference(nested(depth), nil), depth)
	}
}

// What decoding allocates is in proportion to what came in.
func TestDecodeBounded(t *testing.T) {
	const size = 1 << 20
	for name, in := range map[string][]byte{
		"a large payload":  signed(size).Encode(),
		"topics":           bytes.Repeat([]byte{0x12, 2, 'a', 'b'}, size/4),
		"empty payloads":   bytes.Repeat([]byte{0x0a, 0}, size/2),
		"unknown fields":   bytes.Repeat([]byte{0x20, 0}, size/2),
		"groups":           bytes.Repeat([]byte{0x23, 0x24}, size/2),
		"open groups":      bytes.Repeat([]byte{0x23}, size),
		"promised lengths": {0x0a, 0xff, 0xff, 0xff, 0xff, 0x07},
		"a large topic":    (&message.Message{ContentTopic: strings.Repeat("a", size)}).Encode(),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = message.Decode(in)
		runtime.ReadMemStats(&after)
		assert.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(len(in)+256<<10), name)
	}
}

// Decode accepts and refuses what the protobuf library does, and reads the same
// values, over many messages that are almost right.
func TestDecodeLikeProtobuf(t *testing.T) {
	rng := rand.New(rand.NewChaCha8([32]byte{1}))
	accepted, refused := 0, 0
	for range 10_000 {
		in := almostMessage(rng)
		m, err := message.Decode(in)
		if err != nil {
			refused++
			require.Error(t, reference(in, nil), "%x: %v", in, err)
			continue
		}
		accepted++
		require.NoError(t, reference(in, m), "%x", in)
	}
	assert.Greater(t, accepted, 1000)
	assert.Greater(t, refused, 1000)
}

// almostMessage returns a few fields, mostly known and of the right type, at
// times with a bit turned over or the end cut off.
func almostMessage(rng *rand.Rand) []byte {
	var b []byte
	field := func() {
		nums := []protowire.Number{1, 2, 3, 10, 11, 21, 31, 4, 1 << 28, protowire.MaxValidNumber}
		num := nums[rng.IntN(len(nums))]
		switch typ := protowire.Type(rng.IntN(6)); typ {
		case protowire.VarintType:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, typ), rng.Uint64()>>rng.IntN(64))
		case protowire.Fixed32Type:
			b = protowire.AppendFixed32(protowire.AppendTag(b, num, typ), rng.Uint32())
		case protowire.Fixed64Type:
			b = protowire.AppendFixed64(protowire.AppendTag(b, num, typ), rng.Uint64())
		case protowire.BytesType:
			text := []string{"", "a", "/waku/1/0x9c22ff5f/rfc26", "\x20\x00", "ü", "\xff"}
			b = protowire.AppendString(protowire.AppendTag(b, num, typ), text[rng.IntN(len(text))])
		default:
			b = protowire.AppendTag(b, num, typ)
		}
	}
	for range rng.IntN(8) {
		if rng.IntN(4) == 0 {
			b = protowire.AppendTag(b, 5, protowire.StartGroupType)
			field()
			b = protowire.AppendTag(b, 5, protowire.EndGroupType)
		} else {
			field()
		}
	}
	if len(b) > 0 && rng.IntN(4) == 0 {
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	}
	if len(b) > 0 && rng.IntN(8) == 0 {
		b = b[:rng.IntN(len(b))]
	}
	return b
}

// A WakuMessage for the protobuf library, in two ways: by reflection, which
// keeps presence and unknown fields, and as a struct, which takes the library's
// fast path, as generated code does.
var descriptor = describe()

type fastMessage struct {
	Payload      []byte `protobuf:"bytes,1,opt,name=payload,proto3"`
	ContentTopic string `protobuf:"bytes,2,opt,name=content_topic,proto3"`
	Version      uint32 `protobuf:"varint,3,opt,name=version,proto3"`
	Timestamp    int64  `protobuf:"zigzag64,10,opt,name=timestamp,proto3"`
	Meta         []byte `protobuf:"bytes,11,opt,name=meta,proto3"`
	Proof        []byte `protobuf:"bytes,21,opt,name=rate_limit_proof,proto3"`
	Ephemeral    bool   `protobuf:"varint,31,opt,name=ephemeral,proto3"`
}

func (m *fastMessage) Reset()         { *m = fastMessage{} }
func (m *fastMessage) String() string { return "" }
func (*fastMessage) ProtoMessage()    {}

func describe() protoreflect.MessageDescriptor {
	msg := &descriptorpb.DescriptorProto{Name: proto.String("WakuMessage")}
	add := func(name string, num int32, t descriptorpb.FieldDescriptorProto_Type, optional bool) {
		f := &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: &num, Type: &t,
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if optional {
			f.Proto3Optional = proto.Bool(true)
			f.OneofIndex = proto.Int32(int32(len(msg.OneofDecl)))
			msg.OneofDecl = append(msg.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String("_" + name)})
		}
		msg.Field = append(msg.Field, f)
	}
	add("payload", 1, descriptorpb.FieldDescriptorProto_TYPE_BYTES, false)
	add("content_topic", 2, descriptorpb.FieldDescriptorProto_TYPE_STRING, false)
	add("version", 3, descriptorpb.FieldDescriptorProto_TYPE_UINT32, true)
	add("timestamp", 10, descriptorpb.FieldDescriptorProto_TYPE_SINT64, true)
	add("meta", 11, descriptorpb.FieldDescriptorProto_TYPE_BYTES, true)
	add("rate_limit_proof", 21, descriptorpb.FieldDescriptorProto_TYPE_BYTES, true)
	add("ephemeral", 31, descriptorpb.FieldDescriptorProto_TYPE_BOOL, true)
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("waku_message.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{msg},
	}, nil)
	if err != nil {
		panic(err)
	}
	return file.Messages().Get(0)
}

// reference reads in with the protobuf library. If the library accepts it, m
// must hold the same values, presence and unknown fields.
func reference(in []byte, m *message.Message) error {
	fast := new(fastMessage)
	fastErr := proto.Unmarshal(in, protoadapt.MessageV2Of(fast))
	dyn := dynamicpb.NewMessage(descriptor)
	err := proto.Unmarshal(in, dyn)
	if (err == nil) != (fastErr == nil) {
		panic("the library disagrees with itself")
	}
	if err != nil || m == nil {
		return err
	}
	return sameMessage(dyn, m)
}
