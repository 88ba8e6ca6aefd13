package simnet

import (
	"encoding/binary"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// Class says what bytes are for.
type Class uint8

// The classes. Together those before Overhead are what the router wrote to its
// streams, byte for byte.
const (
	Payload   Class = iota // publish entries of an RPC, whole
	IHave                  // offers
	IWant                  // requests
	IDontWant              // messages called off
	Graft                  // places in the mesh asked for
	Prune                  // places given up
	Subscribe              // shards announced or left
	Framing                // lengths of RPCs and of their control parts
	Other                  // not an RPC
	Overhead               // packets, encryption, multiplexing, acknowledgements, repetitions
	Setup                  // making connections and streams
	Classes   = iota
)

var classNames = [Classes]string{
	"payload", "ihave", "iwant", "idontwant", "graft", "prune", "subscribe", "framing", "other", "overhead", "setup",
}

// String is the class's name in lower case.
func (c Class) String() string { return classNames[c] }

// split is a segment's bytes by class, and the messages in it.
type split struct {
	bytes    [Classes]uint32
	messages uint16
}

// classify takes apart what a relay writes at once: a length and an RPC. Anything
// else is Other, whole.
func classify(b []byte) (s split) {
	size, n := binary.Uvarint(b)
	if n <= 0 || uint64(len(b)-n) != size {
		s.bytes[Other] = uint32(len(b))
		return s
	}
	s.bytes[Framing] = uint32(n)
	if !s.rpc(b[n:]) {
		s = split{}
		s.bytes[Other] = uint32(len(b))
	}
	return s
}

func (s *split) rpc(b []byte) bool {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 || kind != protowire.BytesType {
			return false
		}
		value, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return false
		}
		whole := uint32(n + m)
		switch field {
		case 1:
			s.bytes[Subscribe] += whole
		case 2:
			s.bytes[Payload] += whole
			s.messages++
		case 3:
			s.bytes[Framing] += whole - uint32(len(value))
			if !s.control(value) {
				return false
			}
		default:
			s.bytes[Other] += whole
		}
		b = b[n+m:]
	}
	return true
}

func (s *split) control(b []byte) bool {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		m := protowire.ConsumeFieldValue(field, kind, b[n:])
		if m < 0 {
			return false
		}
		class := Other
		switch field {
		case 1:
			class = IHave
		case 2:
			class = IWant
		case 3:
			class = Graft
		case 4:
			class = Prune
		case 5:
			class = IDontWant
		}
		s.bytes[class] += uint32(n + m)
		b = b[n+m:]
	}
	return true
}

// Flow is what went one way: bytes by class, and messages, copies included.
type Flow struct {
	Bytes    [Classes]uint64
	Messages uint64
}

// Stream is what was written to streams, without what a transport adds.
func (f Flow) Stream() (n uint64) {
	for _, b := range f.Bytes[:Overhead] {
		n += b
	}
	return n
}

// Wire is everything.
func (f Flow) Wire() uint64 { return f.Stream() + f.Bytes[Overhead] + f.Bytes[Setup] }

// Sub returns f without what was before.
func (f Flow) Sub(before Flow) Flow {
	for c := range f.Bytes {
		f.Bytes[c] -= before.Bytes[c]
	}
	f.Messages -= before.Messages
	return f
}

// Add returns the sum of both.
func (f Flow) Add(g Flow) Flow {
	for c := range f.Bytes {
		f.Bytes[c] += g.Bytes[c]
	}
	f.Messages += g.Messages
	return f
}

// Traffic is what a host has received and sent since it began: in counts at arrival,
// out at the writer's call.
type Traffic struct{ In, Out Flow }

// Sub returns t without what was before.
func (t Traffic) Sub(before Traffic) Traffic {
	return Traffic{In: t.In.Sub(before.In), Out: t.Out.Sub(before.Out)}
}

// Add returns the sum of both.
func (t Traffic) Add(u Traffic) Traffic { return Traffic{In: t.In.Add(u.In), Out: t.Out.Add(u.Out)} }

type meter struct {
	bytes    [Classes]atomic.Uint64
	messages atomic.Uint64
}

func (m *meter) add(s *split) {
	for c, n := range s.bytes {
		if n > 0 {
			m.bytes[c].Add(uint64(n))
		}
	}
	if s.messages > 0 {
		m.messages.Add(uint64(s.messages))
	}
}

func (m *meter) flow() (f Flow) {
	for c := range m.bytes {
		f.Bytes[c] = m.bytes[c].Load()
	}
	f.Messages = m.messages.Load()
	return f
}
