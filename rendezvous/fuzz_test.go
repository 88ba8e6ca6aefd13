package rendezvous_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	libp2precord "github.com/libp2p/go-libp2p/core/record"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/status-im/shoal/rendezvous"
)

// schema is the protocol as its protobuf file describes it, for the Go library to
// judge by. What is nested is bytes here: of two, a library merges messages, and we
// take the last; and enums are numbers.
var schema = func() protoreflect.MessageDescriptors {
	const (
		raw  = descriptorpb.FieldDescriptorProto_TYPE_BYTES
		num  = descriptorpb.FieldDescriptorProto_TYPE_UINT64
		one  = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		many = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	)
	type f struct {
		name  string
		num   int32
		typ   descriptorpb.FieldDescriptorProto_Type
		label descriptorpb.FieldDescriptorProto_Label
	}
	msg := func(name string, fields ...f) *descriptorpb.DescriptorProto {
		m := &descriptorpb.DescriptorProto{Name: &name}
		for _, x := range fields {
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{Name: &x.name, Number: &x.num, Type: &x.typ, Label: &x.label})
		}
		return m
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("rendezvous.proto"), Syntax: proto.String("proto2"),
		MessageType: []*descriptorpb.DescriptorProto{
			msg("Message", f{"type", 1, num, one}, f{"register", 2, raw, one}, f{"registerResponse", 3, raw, one},
				f{"unregister", 4, raw, one}, f{"discover", 5, raw, one}, f{"discoverResponse", 6, raw, one}),
			msg("Register", f{"ns", 1, raw, one}, f{"record", 2, raw, one}, f{"ttl", 3, num, one}),
			msg("RegisterResponse", f{"status", 1, num, one}, f{"text", 2, raw, one}, f{"ttl", 3, num, one}),
			msg("Unregister", f{"ns", 1, raw, one}),
			msg("Discover", f{"ns", 1, raw, one}, f{"limit", 2, num, one}, f{"cookie", 3, raw, one}),
			msg("DiscoverResponse", f{"registrations", 1, raw, many}, f{"cookie", 2, raw, one}, f{"status", 3, num, one}, f{"text", 4, raw, one}),
		},
	}, nil)
	if err != nil {
		panic(err)
	}
	return file.Messages()
}()

// read is a message as the Go library reads it.
type read struct{ *dynamicpb.Message }

func readAs(name string, b []byte) (read, error) {
	m := read{dynamicpb.NewMessage(schema.ByName(protoreflect.Name(name)))}
	return m, proto.Unmarshal(b, m)
}

func (r read) field(name string) protoreflect.FieldDescriptor {
	return r.Descriptor().Fields().ByName(protoreflect.Name(name))
}
func (r read) num(name string) uint64 { return r.Get(r.field(name)).Uint() }
func (r read) raw(name string) []byte { return r.Get(r.field(name)).Bytes() }
func (r read) has(name string) bool   { return r.Has(r.field(name)) }
func (r read) all(name string) [][]byte {
	l := r.Get(r.field(name)).List()
	var out [][]byte
	for i := range l.Len() {
		out = append(out, l.Get(i).Bytes())
	}
	return out
}

// verify is require.True, but costs nothing: fuzzing lives on speed.
func verify(t *testing.T, ok bool, format string, args ...any) {
	if !ok {
		t.Helper()
		t.Fatalf(format, args...)
	}
}

func sameRegister(a, b rendezvous.Register) bool {
	return bytes.Equal(a.NS, b.NS) && bytes.Equal(a.Record, b.Record) && a.TTL == b.TTL
}

func hostile() [][]byte {
	many := func(field string, n int) []byte { return bytes.Repeat(unhex(field), n) }
	return [][]byte{
		nil,
		many("0800", 100_000),
		many("0a00", 100_000),
		many("1200", 100_000),
		many("1800", 100_000),
		many("0a020a00", 50_000),
		many("3a00", 100_000),
		many("1b", 100_000),
		append(many("9b06", 5_000), many("9c06", 5_000)...),
		bytes.Repeat([]byte{0xff}, 20),
		append(unhex("22a08d06"), make([]byte, 100_000)...),
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(registerRequest(ns, record(0), 7200))
	f.Add(rendezvous.AppendRequest(rendezvous.Request{Kind: 2, Reg: rendezvous.Register{NS: []byte(ns)}}))
	f.Add(discoverRequest(ns, 12, []byte("cookie")))
	f.Add(discoverRequest("", 0, nil))
	for _, b := range hostile() {
		f.Add(b[:min(len(b), 2000)])
		f.Add(append(unhex("0803"), lengthed(5, b[:min(len(b), 2000)])...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := rendezvous.RequestOf(b)
		if err != nil {
			verify(t, errors.Is(err, rendezvous.ErrMalformed) && r.Kind == 0 && r.Reg.NS == nil, "%+v, %v", r, err)
			return
		}
		m, err := readAs("Message", b)
		verify(t, err == nil && m.num("type") == uint64(r.Kind), "the library can't read it: %v", err)
		body, name := m.raw("register"), "Register"
		switch r.Kind {
		case 2:
			body, name = m.raw("unregister"), "Unregister"
		case 3:
			body, name = m.raw("discover"), "Discover"
		}
		in, err := readAs(name, body)
		verify(t, err == nil && bytes.Equal(in.raw("ns"), r.Reg.NS), "the library reads %v, %v", in, err)
		switch r.Kind {
		case 0:
			verify(t, bytes.Equal(in.raw("record"), r.Reg.Record) && in.num("ttl") == r.Reg.TTL && in.has("ttl") == r.Reg.Timed, "%v", in)
		case 3:
			verify(t, bytes.Equal(in.raw("cookie"), r.Cookie) && in.num("limit") == r.Limit, "%v", in)
		}
		again, err := rendezvous.RequestOf(rendezvous.AppendRequest(r))
		verify(t, err == nil && again.Kind == r.Kind && sameRegister(again.Reg, r.Reg), "written anew: %+v, %v", again, err)
		verify(t, again.Limit == r.Limit && bytes.Equal(again.Cookie, r.Cookie), "written anew: %+v", again)
	})
}

func FuzzResponse(f *testing.F) {
	reg := rendezvous.Register{NS: []byte(ns), Record: record(0), TTL: 7200}
	f.Add(rendezvous.AppendResponse(rendezvous.Response{Kind: 1, TTL: 7200}))
	f.Add(rendezvous.AppendResponse(rendezvous.Response{Kind: 1, Status: 102, Text: "E_INVALID_TTL"}))
	f.Add(rendezvous.AppendResponse(rendezvous.Response{Kind: 4, Regs: []rendezvous.Register{reg, reg}, Cookie: []byte("cookie")}))
	f.Add(rendezvous.AppendResponse(rendezvous.Response{Kind: 4, Status: 400, Text: "E_UNAVAILABLE, retry after 5m0s"}))
	for _, b := range hostile() {
		f.Add(append(unhex("0804"), lengthed(6, b[:min(len(b), 2000)])...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 20
		for kind, name := range map[uint32]string{1: "registerResponse", 4: "discoverResponse"} {
			r, err := rendezvous.ResponseOf(b, kind, limit)
			if err != nil {
				verify(t, errors.Is(err, rendezvous.ErrMalformed) && r.Status == 0 && r.Regs == nil, "%+v, %v", r, err)
				continue
			}
			verify(t, len(r.Regs) <= limit && len(r.Text) <= 256, "%+v", r)
			m, err := readAs("Message", b)
			verify(t, err == nil && m.num("type") == uint64(kind), "the library can't read it: %v", err)
			in, err := readAs(string(bytes.ToUpper([]byte(name[:1])))+name[1:], m.raw(name))
			verify(t, err == nil, "the library can't read it: %v", err)
			verify(t, min(in.num("status"), 1<<32-1) == uint64(r.Status), "status %d", r.Status)
			if kind == 1 {
				verify(t, in.num("ttl") == r.TTL, "ttl %d", r.TTL)
			} else {
				all := in.all("registrations")
				verify(t, len(all) == len(r.Regs)+r.More, "%d and %d more", len(r.Regs), r.More)
				verify(t, bytes.Equal(in.raw("cookie"), r.Cookie), "cookie %x", r.Cookie)
				for i, g := range r.Regs {
					one, err := readAs("Register", all[i])
					verify(t, g.Record == nil || err == nil && bytes.Equal(one.raw("record"), g.Record) && bytes.Equal(one.raw("ns"), g.NS) && one.num("ttl") == g.TTL, "registration %d", i)
				}
			}
			r.More = 0
			again, err := rendezvous.ResponseOf(rendezvous.AppendResponse(r), kind, limit)
			verify(t, err == nil && again.Status == r.Status && again.Text == r.Text && again.TTL == r.TTL && bytes.Equal(again.Cookie, r.Cookie), "written anew: %+v, %v", again, err)
			verify(t, slices.EqualFunc(again.Regs, r.Regs, sameRegister), "written anew: %+v", again)
		}
	})
}

// records are signed peer records, good and bad.
func records() [][]byte {
	a := addrs("/ip4/20.0.0.1/tcp/1", "/ip4/20.0.0.1/tcp/1/p2p/"+idOf(7).String()+"/p2p-circuit/p2p/"+idOf(0).String())
	sign := func(p []byte) []byte { return envelope(0, "libp2p-peer-record", recordType, p) }
	return [][]byte{
		record(0), record(1), nil, []byte("a record"),
		sign(payload(idOf(0), 1, a[0].Bytes(), a[1].Bytes(), nil, []byte{0xff})),
		sign(payload(idOf(0), 1<<64-1, a[0].Bytes())),
		sign(payload(idOf(1), 1, a[0].Bytes())),
		sign(payload("", 1, a[0].Bytes())),
		sign(nil),
		slices.Concat(record(0), record(1)),
		slices.Concat(record(0), bytes.Repeat([]byte{0x9b, 6}, 1000)),
	}
}

// What we take for a peer's record, the library takes for the same.
func FuzzRecord(f *testing.F) {
	for _, b := range records() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		info, seq, wrong := rendezvous.OpenRecord(b)
		if wrong != "" {
			verify(t, info.ID == "" && info.Addrs == nil, "%v", info)
			return
		}
		var rec peer.PeerRecord
		_, err := libp2precord.ConsumeTypedEnvelope(b, &rec)
		verify(t, err == nil, "the library: %v", err)
		verify(t, rec.PeerID == info.ID && rec.Seq == seq && len(rec.Addrs) >= len(info.Addrs) && len(info.Addrs) > 0, "%+v, %+v", rec, info)
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := rendezvous.LoadSnapshot(b)
		verify(t, err == nil || errors.Is(err, rendezvous.ErrSnapshot), "%v", err)
	})
}

// What is read costs no more memory than a few times its length.
func TestDecodersAllocateLittle(t *testing.T) {
	const slack = 64 << 10
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for i, b := range hostile() {
		for kind := range byte(5) {
			in := append([]byte{8, kind}, lengthed([]protowire.Number{2, 3, 4, 5, 6}[kind], b)...)
			limit := uint64(4*len(in) + slack)
			require.LessOrEqual(t, allocated(func() { rendezvous.RequestOf(in) }), limit, "%d %d", i, kind)
			require.LessOrEqual(t, allocated(func() { rendezvous.ResponseOf(in, uint32(kind), 1000) }), limit, "%d %d", i, kind)
		}
		short := b[:min(len(b), 3000)]
		for _, in := range [][]byte{b, lengthed(3, short), envelope(0, "libp2p-peer-record", recordType, short[:min(len(short), 2900)])} {
			require.LessOrEqual(t, allocated(func() { rendezvous.OpenRecord(in) }), uint64(4*len(in)+slack), i)
		}
	}
}

// A flipped bit anywhere in a record is noticed, unless it says the same.
func TestForgedRecords(t *testing.T) {
	whole := record(3)
	want, seq, wrong := rendezvous.OpenRecord(whole)
	require.Empty(t, wrong)
	rng := rand.New(rand.NewPCG(1, 2))
	tries := 400
	if raceEnabled {
		tries = 40
	}
	for range tries {
		b := slices.Clone(whole)
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		if got, n, wrong := rendezvous.OpenRecord(b); wrong == "" {
			require.Equal(t, want, got)
			require.Equal(t, seq, n)
		}
	}
	for i, b := range records() {
		_, _, wrong := rendezvous.OpenRecord(b)
		require.Equal(t, slices.Contains([]int{0, 1, 4, 5, 9}, i), wrong == "", "%d: %s", i, wrong)
	}
	info, _, _ := rendezvous.OpenRecord(records()[4])
	require.Equal(t, addrs("/ip4/20.0.0.1/tcp/1", "/ip4/20.0.0.1/tcp/1/p2p/"+idOf(7).String()+"/p2p-circuit"), info.Addrs)
}
