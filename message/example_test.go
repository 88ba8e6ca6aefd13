package message_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/status-im/shoal/message"
)

// A message is written, read and named.
func Example() {
	m := &message.Message{
		Payload:      []byte("hello"),
		ContentTopic: "/waku/1/0x9c22ff5f/rfc26",
		Timestamp:    time.Unix(1700000000, 123456789).UnixNano(),
	}
	if err := m.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	wire := m.Encode()
	fmt.Printf("%d bytes: %x\n", len(wire), wire)

	got, err := message.Decode(wire)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s on %s\n", got.Payload, got.ContentTopic)
	fmt.Println(got.Hash("/waku/2/rs/16/32"))

	// Output:
	// 43 bytes: 0a0568656c6c6f12182f77616b752f312f307839633232666635662f726663323650aab4aed8c7bfce972f
	// hello on /waku/1/0x9c22ff5f/rfc26
	// 0x4f16f7e5e6c0e912207c07c95031f539703368b9c920abf60640865a650d7956
}

// Errors have types, so that a program can tell them apart.
func ExampleDecode() {
	_, err := message.Decode([]byte{0x0a, 5, 'h', 'e', 'l'})
	var damage *message.DecodeError
	if errors.As(err, &damage) {
		fmt.Println("damaged at byte", damage.Offset)
	}
	fmt.Println(err)
	// Output:
	// damaged at byte 0
	// message: malformed at byte 0: unexpected EOF
}

// A network's limit is on the encoded message.
func ExampleMessage_CheckSize() {
	m := &message.Message{Payload: make([]byte, 200<<10), ContentTopic: "/chat/1/lobby/proto"}
	fmt.Println(m.CheckSize(message.DefaultMaxSize))
	fmt.Println(m.CheckSize(message.LargeMaxSize))
	// Output:
	// message: 204825 bytes encoded, at most 153536 are allowed
	// <nil>
}

// Two encodings of one message: optional fields that are zero may be left out
// or written.
func ExampleMessage_Explicit() {
	m := &message.Message{Payload: []byte("a"), ContentTopic: "b"}
	fmt.Printf("%x\n", m.Encode())
	m.Explicit = message.FieldVersion | message.FieldEphemeral
	fmt.Printf("%x\n", m.Encode())
	// Output:
	// 0a0161120162
	// 0a01611201621800f80100
}

// A validator is a function; this one lets nobody send more than a kilobyte.
func ExampleScreen() {
	var screen message.Screen = func(in *message.Received) message.Verdict {
		if len(in.Message.Payload) > 1024 {
			return message.Ignore
		}
		return message.Accept
	}
	m := &message.Message{Payload: make([]byte, 4096), ContentTopic: "/chat/1/lobby/proto"}
	fmt.Println(screen(&message.Received{PubsubTopic: "/waku/2/rs/16/128", Message: m}))
	// Output: ignore
}
