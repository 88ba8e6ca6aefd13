package peerexchange_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/status-im/shoal/peerexchange"
)

// schema is the protocol as its protobuf files describe it, for the Go library to
// judge by. What is nested is bytes here: of two, a library merges messages, and we
// take the last.
var schema = func() protoreflect.MessageDescriptors {
	field := func(name string, num int32, typ descriptorpb.FieldDescriptorProto_Type, label descriptorpb.FieldDescriptorProto_Label) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &num, Type: &typ, Label: &label}
	}
	msg := func(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
	}
	const (
		raw  = descriptorpb.FieldDescriptorProto_TYPE_BYTES
		num  = descriptorpb.FieldDescriptorProto_TYPE_UINT64
		one  = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		many = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	)
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("peer_exchange.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			msg("RPC", field("query", 1, raw, one), field("response", 2, raw, one)),
			msg("Query", field("num_peers", 1, num, one)),
			msg("Response", field("peer_infos", 1, raw, many), field("status_code", 10, num, one), field("status_desc", 11, raw, one)),
			msg("PeerInfo", field("enr", 1, raw, one)),
		},
	}, nil)
	if err != nil {
		panic(err)
	}
	return f.Messages()
}()

// read is a message as the Go library reads it.
type read struct{ *dynamicpb.Message }

func readAs(name string, b []byte) (read, error) {
	m := read{dynamicpb.NewMessage(schema.ByName(protoreflect.Name(name)))}
	return m, proto.Unmarshal(b, m)
}

func (r read) get(field string) protoreflect.Value {
	return r.Get(r.Descriptor().Fields().ByName(protoreflect.Name(field)))
}

// verify is require.True, but costs nothing: fuzzing lives on speed.
func verify(t *testing.T, ok bool, format string, args ...any) {
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
		many("0a00", 100_000),
		many("0a020a00", 50_000),
		many("0a020801", 50_000),
		many("0801", 100_000),
		many("1200", 100_000),
		many("50c801", 70_000),
		many("5a00", 100_000),
		many("5a03ffff1b", 30_000),
		many("1b", 100_000),
		append(many("1b", 5_000), many("1c", 5_000)...),
		many("a306", 100_000),
		bytes.Repeat([]byte{0xff}, 20),
		append(unhex("5aa08d06"), make([]byte, 100_000)...),
	}
}

func FuzzRequest(f *testing.F) {
	for _, r := range loadVectors(f).Requests {
		f.Add(unhex(r.Hex))
	}
	for _, b := range hostile() {
		f.Add(b[:min(len(b), 2000)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		peers, err := peerexchange.RequestOf(b)
		if err != nil {
			verify(t, errors.Is(err, peerexchange.ErrMalformed) && peers == 0, "%d, %v", peers, err)
			return
		}
		rpc, err := readAs("RPC", b)
		verify(t, err == nil, "the library can't read it: %v", err)
		query, err := readAs("Query", rpc.get("query").Bytes())
		verify(t, err == nil, "the library can't read the query: %v", err)
		verify(t, query.get("num_peers").Uint() == peers, "%d peers", peers)
		again, err := peerexchange.RequestOf(peerexchange.AppendRequest(peers))
		verify(t, err == nil && again == peers, "written anew: %d, %v", again, err)
	})
}

func FuzzResponse(f *testing.F) {
	for _, r := range loadVectors(f).Responses {
		f.Add(unhex(r.Hex))
	}
	for _, b := range hostile() {
		f.Add(lengthed(2, b[:min(len(b), 2000)]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 20
		r, err := peerexchange.ResponseOf(b, limit)
		if err != nil {
			verify(t, errors.Is(err, peerexchange.ErrMalformed) && r.Code == 0 && r.Records == nil, "%+v, %v", r, err)
			return
		}
		verify(t, r.Code != 0 && len(r.Records) <= limit && len(r.Desc) <= 256, "%+v", r)
		rpc, err := readAs("RPC", b)
		verify(t, err == nil, "the library can't read it: %v", err)
		inner, err := readAs("Response", rpc.get("response").Bytes())
		verify(t, err == nil, "the library can't read the response: %v", err)
		infos := inner.get("peer_infos").List()
		verify(t, infos.Len() == len(r.Records)+r.More, "%d records and %d more", len(r.Records), r.More)
		code := min(inner.get("status_code").Uint(), 1<<32-1)
		switch {
		case code != 0:
			verify(t, uint64(r.Code) == code, "code %d", r.Code)
		case infos.Len() > 0:
			verify(t, r.Code == 200, "code %d", r.Code)
		default:
			verify(t, r.Code == 503, "code %d", r.Code)
		}
		for i, e := range r.Records {
			info, err := readAs("PeerInfo", infos.Get(i).Bytes())
			if err == nil {
				verify(t, len(e) == 0 || bytes.Equal(e, info.get("enr").Bytes()), "record %d: %x", i, e)
			} else {
				verify(t, len(e) == 0, "record %d: %x", i, e)
			}
		}
		r.More = 0
		again, err := peerexchange.ResponseOf(peerexchange.AppendResponse(r), limit)
		verify(t, err == nil && again.Code == r.Code && again.Desc == r.Desc, "written anew: %+v, %v", again, err)
		verify(t, slices.EqualFunc(again.Records, r.Records, bytes.Equal), "written anew: %x", again.Records)
	})
}

// What is read costs no more memory than a few times its length.
func TestDecodersAllocateLittle(t *testing.T) {
	const slack = 64 << 10
	for i, b := range hostile() {
		for _, in := range [][]byte{b, lengthed(1, b), lengthed(2, b), lengthed(2, lengthed(1, b))} {
			limit := uint64(4*len(in) + slack)
			require.LessOrEqual(t, allocated(func() { peerexchange.RequestOf(in) }), limit, i)
			require.LessOrEqual(t, allocated(func() { peerexchange.ResponseOf(in, 60) }), limit, i)
		}
	}
}

// Whatever is made of an answer, every record is either in it or accounted for.
func TestNoRecordIsLost(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	whole := answer(records(100, 6)...)
	for range 25 {
		b := slices.Clone(whole)
		for range 1 + rng.IntN(4) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		const limit = 4
		r, err := peerexchange.ResponseOf(b, limit)
		if err != nil {
			continue
		}
		a := peerexchange.Check(r, limit-1, idOf(101))
		left := r.More + len(r.Records) - len(a.Peers)
		for _, n := range a.Refused {
			left -= n
		}
		require.Zero(t, left)
		require.Less(t, len(a.Peers), limit)
		for _, p := range a.Peers {
			require.Contains(t, records(100, 6), p.ENR)
		}
	}
}
