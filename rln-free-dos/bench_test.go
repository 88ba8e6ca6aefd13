package dosguard_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

// What it costs to refuse, and to accept, a message of 2 KiB.
func BenchmarkSigned(b *testing.B) {
	key := communityKey(b)
	payload := strings.Repeat("x", 2048)
	signed := func() *dosguard.Signed { return newClock().signed(key.PublicKey()) }
	screen := func(name string, s *dosguard.Signed, m *message.Message) {
		in := received(m)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Screen(in)
			}
		})
	}
	validate := func(name string, s *dosguard.Signed, m *message.Message) {
		in := received(m)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Validate(context.Background(), in)
			}
		})
	}
	good := newMessage(b, key, start, payload)
	seen := signed()
	admit(seen, received(good))
	screen("screen/unsigned", signed(), newMessage(b, nil, start, payload))
	screen("screen/stale", signed(), newMessage(b, key, start.Add(-time.Hour), payload))
	screen("screen/good", signed(), good)
	screen("screen/replay", seen, good)
	validate("validate/forged", signed(), newMessage(b, strangerKey(b), start, payload))
	validate("validate/replay", seen, good)
	validate("validate/good", signed().WithoutMemory(), good)

	twoKeys := signed()
	_ = twoKeys.Keys().Add(strangerKey(b).PublicKey(), start.Add(-time.Minute), time.Time{})
	validate("validate/forged, two keys", twoKeys, newMessage(b, privateKey(b, secretHex[:32]+secretHex[:32]), start, payload))
}

// BenchmarkAccept is a good message that hasn't been seen, the memory included.
func BenchmarkAccept(b *testing.B) {
	key := communityKey(b)
	c := newClock()
	s := c.signed(key.PublicKey())
	messages := make([]*message.Received, 2000)
	for i := range messages {
		messages[i] = received(newMessage(b, key, start.Add(time.Duration(i)*time.Millisecond), fmt.Sprint(i, strings.Repeat("x", 2000))))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%len(messages) == 0 {
			b.StopTimer()
			s = c.signed(key.PublicKey())
			b.StartTimer()
		}
		s.Validate(context.Background(), messages[i%len(messages)])
	}
}

func BenchmarkDigest(b *testing.B) {
	m := newMessage(b, nil, start, strings.Repeat("x", 2048))
	b.SetBytes(2048)
	b.ReportAllocs()
	for b.Loop() {
		dosguard.Digest(topic, m)
	}
}

func BenchmarkSign(b *testing.B) {
	key := communityKey(b)
	m := newMessage(b, nil, start, "hello")
	for b.Loop() {
		_ = key.Sign(topic, m)
	}
}

func BenchmarkPeerBudget(b *testing.B) {
	m := newMessage(b, nil, start, "hello")
	b.Run("one peer", func(b *testing.B) {
		b.ReportAllocs()
		budget, in := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{}), from("peer", m)
		for b.Loop() {
			budget.Screen(in)
		}
	})
	b.Run("always new peers", func(b *testing.B) {
		b.ReportAllocs()
		budget, in := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{}), from("", m)
		var id [8]byte
		for i := uint64(1); b.Loop(); i++ {
			binary.LittleEndian.PutUint64(id[:], i)
			in.From = string(id[:])
			budget.Screen(in)
		}
	})
}

func BenchmarkBudget(b *testing.B) {
	budget := dosguard.NewBudget(func(context.Context, *message.Received) message.Verdict {
		return message.Accept
	}, dosguard.BudgetConfig{})
	defer budget.Close()
	b.ReportAllocs()
	for b.Loop() {
		budget.Validate(context.Background(), nil)
	}
}
