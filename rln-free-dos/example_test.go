package dosguard_test

import (
	"context"
	"fmt"
	"time"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

func Example() {
	// The community's key: members have it, relays know its public half.
	key, err := dosguard.GenerateKey()
	if err != nil {
		panic(err)
	}
	guard := dosguard.NewSigned(dosguard.SignedConfig{
		Keys: dosguard.NewRegistry(key.PublicKey()),
	})

	const topic = "/waku/2/rs/16/128"
	m := &message.Message{
		Payload:      []byte("good morning"),
		ContentTopic: "/chat/1/lobby/proto",
		Timestamp:    time.Now().UnixNano(),
	}
	judge := func(m *message.Message) {
		in := &message.Received{PubsubTopic: topic, Message: m, From: "a peer"}
		v := guard.Screen(in)
		if v == message.Accept {
			v = guard.Validate(context.Background(), in)
		}
		fmt.Println(v)
	}

	judge(m) // not signed
	if err := key.Sign(topic, m); err != nil {
		panic(err)
	}
	judge(m) // signed
	judge(m) // replayed
	for _, c := range guard.Counters().Snapshot() {
		if c.N > 0 {
			fmt.Println(c.Verdict, c.Reason, c.N)
		}
	}
	// Output:
	// reject
	// accept
	// ignore
	// accept accepted 1
	// reject no_signature 1
	// ignore replay 1
}

// A community changes its key: for an hour both count.
func ExampleRegistry() {
	oldKey, _ := dosguard.GenerateKey()
	newKey, _ := dosguard.GenerateKey()
	change := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

	keys := dosguard.NewRegistry(oldKey.PublicKey())
	_ = keys.Add(newKey.PublicKey(), change, time.Time{})
	keys.Expire(oldKey.PublicKey(), change.Add(time.Hour))

	for _, at := range []time.Duration{-time.Minute, 0, time.Hour} {
		fmt.Println(len(keys.Valid(change.Add(at))))
	}
	// Output:
	// 1
	// 2
	// 1
}

// What a relay asks about a message, in the order of cost.
func ExampleScreenChain() {
	budget := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{Messages: 10, MessageBurst: 2})
	guard := dosguard.NewSigned(dosguard.SignedConfig{})
	screen := dosguard.ScreenChain(
		budget.Screen,
		dosguard.MaxSize(message.DefaultMaxSize, budget.Counters()),
		guard.Screen,
	)
	for range 3 {
		fmt.Println(screen(&message.Received{From: "a peer", Message: &message.Message{}}))
	}
	// Output:
	// reject
	// reject
	// ignore
}

// A validator that somebody plugged in and that panics.
func ExampleBudget() {
	plugin := dosguard.NewBudget(func(context.Context, *message.Received) message.Verdict {
		panic("no database")
	}, dosguard.BudgetConfig{Name: "spam filter", Timeout: 100 * time.Millisecond})
	defer plugin.Close()

	fmt.Println(plugin.Validate(context.Background(), &message.Received{}))
	fmt.Println(plugin.LastPanic())
	// Output:
	// ignore
	// dosguard: spam filter panicked: no database
}
