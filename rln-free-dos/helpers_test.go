package dosguard_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

const (
	topic        = "/waku/2/rs/16/128"
	contentTopic = "/waku/1/0x9c22ff5f/rfc26"
)

// start is the clock's first reading in tests.
var start = time.Unix(1_700_000_000, 0)

// clock is a clock to be set by hand.
type clock struct{ t time.Time }

func newClock() *clock               { return &clock{start} }
func (c *clock) now() time.Time      { return c.t }
func (c *clock) add(d time.Duration) { c.t = c.t.Add(d) }
func (c *clock) signed(k ...*dosguard.PublicKey) *dosguard.Signed {
	return dosguard.NewSigned(dosguard.SignedConfig{Keys: dosguard.NewRegistry(k...), Now: c.now})
}

func privateKey(t testing.TB, hex string) *dosguard.PrivateKey {
	t.Helper()
	key, err := dosguard.ParsePrivateKey(hex)
	require.NoError(t, err)
	return key
}

// The keys of the published vectors: the community's and somebody else's.
func communityKey(t testing.TB) *dosguard.PrivateKey {
	return privateKey(t, "5526a8990317c9b7b58d07843d270f9cd1d9aaee129294c1c478abf7261dd9e6")
}

func strangerKey(t testing.TB) *dosguard.PrivateKey {
	return privateKey(t, "32ad0cc8edeb9f8a3e8635c5fe5bd200b9247a33da5e7171bd012691805151f3")
}

// newMessage returns a message signed at a time by key, or unsigned.
func newMessage(t testing.TB, key *dosguard.PrivateKey, at time.Time, payload string) *message.Message {
	t.Helper()
	m := &message.Message{Payload: []byte(payload), ContentTopic: contentTopic, Timestamp: at.UnixNano()}
	if key != nil {
		require.NoError(t, key.Sign(topic, m))
	}
	return m
}

func received(m *message.Message) *message.Received {
	return &message.Received{PubsubTopic: topic, Message: m, From: "forwarder"}
}

// admit is what the relay does with a message: Screen, then Validate.
func admit(s *dosguard.Signed, in *message.Received) message.Verdict {
	if v := s.Screen(in); v != message.Accept {
		return v
	}
	return s.Validate(context.Background(), in)
}

// admitFor is admit with the reason that was counted.
func admitFor(t testing.TB, s *dosguard.Signed, in *message.Received) (message.Verdict, dosguard.Reason) {
	t.Helper()
	before := s.Counters().Snapshot()
	v := admit(s, in)
	var counted []dosguard.Reason
	for i, c := range s.Counters().Snapshot() {
		for range c.N - before[i].N {
			counted = append(counted, c.Reason)
		}
	}
	require.Len(t, counted, 1, "a message is counted once")
	return v, counted[0]
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type decimal int64

func (d *decimal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 64)
	*d = decimal(n)
	return err
}

type vectorFile struct {
	Vectors []struct {
		ID    string
		Input struct {
			ContentTopic string   `json:"content_topic"`
			Ephemeral    bool     `json:"ephemeral"`
			Payload      hexBytes `json:"payload_hex"`
			PrivateKey   string   `json:"private_key_hex"`
			Compressed   string   `json:"public_key_compressed_hex"`
			Uncompressed string   `json:"public_key_uncompressed_hex"`
			PubsubTopic  string   `json:"pubsub_topic"`
			Timestamp    decimal  `json:"timestamp_ns"`
		}
		Expected struct {
			Digest    hexBytes `json:"app_message_hash_hex"`
			Meta      hexBytes `json:"meta_hex"`
			Signature hexBytes `json:"signature_rs_hex"`
		}
	}
	Negatives []struct {
		ID    string
		Input struct {
			Digest    hexBytes `json:"app_message_hash_hex"`
			PublicKey string   `json:"public_key_uncompressed_hex"`
			Signature hexBytes `json:"signature_rs_hex"`
		}
		Expected struct {
			Textbook bool `json:"textbook_ecdsa_would_verify"`
			Verify   bool
		}
	} `json:"signature_negatives"`
	Gate []struct {
		ID       string
		Expected string
		Input    struct {
			ContentTopic string   `json:"content_topic"`
			Ephemeral    bool     `json:"ephemeral"`
			Meta         hexBytes `json:"meta_hex"`
			Now          decimal  `json:"now_ns"`
			Payload      hexBytes `json:"payload_hex"`
			PublicKey    string   `json:"public_key_uncompressed_hex"`
			PubsubTopic  string   `json:"pubsub_topic"`
			Timestamp    decimal  `json:"timestamp_ns"`
		}
	} `json:"validator_gate"`
}

func readVectors(t testing.TB) (f vectorFile) {
	t.Helper()
	b, err := os.ReadFile("testdata/app-message-hash-and-signature.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &f))
	return f
}
