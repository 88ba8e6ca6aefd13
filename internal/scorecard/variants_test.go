package scorecard

import (
	"iter"
	"math/rand/v2"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/message"
)

// variants makes messages from a signed one without the key: everything that
// its signature doesn't cover, and every way of writing what it does cover.
func variants(m *message.Message, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		count := 0
		emit := func(b []byte) bool {
			count++
			return count <= n && yield(b)
		}
		for _, family := range []func(*message.Message, func([]byte) bool) bool{
			versions, proofs, unknownFields, repeatedFields, borders, longVarints,
		} {
			if !family(m, emit) {
				return
			}
		}
		r := rand.New(rand.NewPCG(1, 2))
		for emit(shuffled(m, r)) {
		}
	}
}

func versions(m *message.Message, emit func([]byte) bool) bool {
	for v := range uint32(300) {
		c := m.Clone()
		c.Version, c.Explicit = v, c.Explicit|message.FieldVersion
		if !emit(c.Encode()) {
			return false
		}
	}
	return true
}

func proofs(m *message.Message, emit func([]byte) bool) bool {
	for n := range 300 {
		c := m.Clone()
		c.RateLimitProof, c.Explicit = make([]byte, n), c.Explicit|message.FieldRateLimitProof
		if !emit(c.Encode()) {
			return false
		}
	}
	return true
}

func unknownFields(m *message.Message, emit func([]byte) bool) bool {
	known := map[protowire.Number]bool{1: true, 2: true, 3: true, 10: true, 11: true, 21: true, 31: true}
	for num := protowire.Number(1); num < 400; num++ {
		if known[num] {
			continue
		}
		for _, field := range [][]byte{
			protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), 1),
			protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), []byte("x")),
			protowire.AppendFixed32(protowire.AppendTag(nil, num, protowire.Fixed32Type), 1),
			protowire.AppendFixed64(protowire.AppendTag(nil, num, protowire.Fixed64Type), 1),
		} {
			if !emit(append(m.Encode(), field...)) || !emit(append(field, m.Encode()...)) {
				return false
			}
		}
	}
	return true
}

// fields cuts an encoded message into its fields.
func fields(m *message.Message) [][]byte {
	var out [][]byte
	for b := m.Encode(); len(b) > 0; {
		_, _, n := protowire.ConsumeField(b)
		out = append(out, b[:n:n])
		b = b[n:]
	}
	return out
}

func repeatedFields(m *message.Message, emit func([]byte) bool) bool {
	for _, f := range fields(m) {
		for k := range 50 {
			b := m.Encode()
			for range k + 1 {
				b = append(b, f...)
			}
			if !emit(b) {
				return false
			}
		}
	}
	return true
}

// borders moves bytes between payload and content topic: the signed bytes stay
// the same.
func borders(m *message.Message, emit func([]byte) bool) bool {
	whole := append([]byte(m.Payload), m.ContentTopic...)
	for at := 1; at < len(whole); at++ {
		if at == len(m.Payload) {
			continue
		}
		c := m.Clone()
		c.Payload, c.ContentTopic = whole[:at], string(whole[at:])
		if !emit(c.Encode()) {
			return false
		}
	}
	return true
}

// longVarints writes lengths and numbers with more bytes than they need.
func longVarints(m *message.Message, emit func([]byte) bool) bool {
	fs := fields(m)
	for i := range fs {
		for pad := 1; pad <= 4; pad++ {
			var b []byte
			for j, f := range fs {
				if j == i {
					f = lengthen(f, pad)
				}
				b = append(b, f...)
			}
			if !emit(b) {
				return false
			}
		}
	}
	return true
}

func lengthen(field []byte, pad int) []byte {
	_, _, n := protowire.ConsumeTag(field)
	_, k := protowire.ConsumeVarint(field[n:])
	if k+pad > 10 {
		return field
	}
	out := append([]byte(nil), field[:n+k]...)
	out[len(out)-1] |= 0x80
	for range pad - 1 {
		out = append(out, 0x80)
	}
	out = append(out, 0)
	return append(out, field[n+k:]...)
}

// shuffled changes the order of the fields, and on occasion what else there is.
func shuffled(m *message.Message, r *rand.Rand) []byte {
	c := m.Clone()
	if r.IntN(2) == 0 {
		c.Explicit |= message.FieldVersion
	}
	if r.IntN(2) == 0 {
		c.Explicit |= message.FieldEphemeral
	}
	if r.IntN(2) == 0 {
		c.Explicit |= message.FieldRateLimitProof
	}
	fs := fields(c)
	r.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
	var b []byte
	for _, f := range fs {
		if r.IntN(2) == 0 {
			f = lengthen(f, 1+r.IntN(3))
		}
		b = append(b, f...)
	}
	return b
}
