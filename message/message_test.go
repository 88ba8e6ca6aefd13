package message_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
)

// hexBytes is a hexadecimal JSON string.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// vectors is the part of testdata/message-hash.json that we test.
type vectors struct {
	Vectors []struct {
		ID    string
		Input struct {
			PubsubTopic  string   `json:"pubsub_topic"`
			Payload      hexBytes `json:"payload_hex"`
			ContentTopic string   `json:"content_topic"`
			Meta         hexBytes `json:"meta_hex"`
			Timestamp    int64    `json:"timestamp_ns,string"`
		}
		Expected struct {
			Hash hexBytes `json:"hash_hex"`
			Not  hexBytes `json:"hash_if_timestamp_bytes_omitted_hex"`
		}
	}
	Wire struct {
		PubsubTopic string   `json:"pubsub_topic"`
		Hash        hexBytes `json:"deterministic_hash_hex"`
		Encodings   []struct {
			ID      string
			Message hexBytes `json:"waku_message_hex"`
		}
		Message struct {
			ContentTopic string   `json:"content_topic"`
			Payload      hexBytes `json:"payload_hex"`
			Timestamp    int64    `json:"timestamp_ns,string"`
		}
	} `json:"wire_examples"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	text, err := os.ReadFile("testdata/message-hash.json")
	require.NoError(t, err)
	var v vectors
	require.NoError(t, json.Unmarshal(text, &v))
	require.NotEmpty(t, v.Vectors)
	require.Len(t, v.Wire.Encodings, 3)
	return v
}

func TestHashVectors(t *testing.T) {
	for _, v := range readVectors(t).Vectors {
		t.Run(v.ID, func(t *testing.T) {
			m := &message.Message{
				Payload:      v.Input.Payload,
				ContentTopic: v.Input.ContentTopic,
				Meta:         v.Input.Meta,
				Timestamp:    v.Input.Timestamp,
			}
			require.Len(t, v.Expected.Hash, 32)
			got := m.Hash(v.Input.PubsubTopic)
			assert.Equal(t, []byte(v.Expected.Hash), got[:])
			assert.NotEqual(t, []byte(v.Expected.Not), got[:])

			// What no hash covers doesn't change it, nor does the encoding.
			m.Version, m.Ephemeral, m.RateLimitProof = 7, true, []byte{1}
			assert.Equal(t, got, m.Hash(v.Input.PubsubTopic))
			m.Version, m.Explicit = 0, message.FieldVersion|message.FieldMeta
			decoded, err := message.Decode(m.Encode())
			require.NoError(t, err)
			assert.Equal(t, got, decoded.Hash(v.Input.PubsubTopic))
		})
	}
}

func TestWireExamples(t *testing.T) {
	wire := readVectors(t).Wire
	explicit := map[string]message.Fields{
		"only-set-fields": 0,
		"status-style":    message.FieldEphemeral,
		"all-fields": message.FieldVersion | message.FieldMeta |
			message.FieldRateLimitProof | message.FieldEphemeral,
	}
	for _, v := range wire.Encodings {
		t.Run(v.ID, func(t *testing.T) {
			m, err := message.Decode(v.Message)
			require.NoError(t, err)
			assert.NoError(t, m.Validate())
			assert.NoError(t, m.Strict())
			assert.Equal(t, []byte(wire.Message.Payload), m.Payload)
			assert.Equal(t, wire.Message.ContentTopic, m.ContentTopic)
			assert.Equal(t, wire.Message.Timestamp, m.Timestamp)
			require.Contains(t, explicit, v.ID)
			assert.Equal(t, explicit[v.ID], m.Explicit)

			hash := m.Hash(wire.PubsubTopic)
			assert.Equal(t, []byte(wire.Hash), hash[:])
			assert.Equal(t, []byte(v.Message), m.Encode())
			assert.Equal(t, len(v.Message), m.Size())
		})
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*message.Message)
		want   error
	}{
		{"as it is", func(*message.Message) {}, nil},
		{"no payload", func(m *message.Message) { m.Payload = nil }, message.ErrEmptyPayload},
		{"empty payload", func(m *message.Message) { m.Payload = []byte{} }, message.ErrEmptyPayload},
		{"no topic", func(m *message.Message) { m.ContentTopic = "" }, message.ErrEmptyContentTopic},
		{"topic of any form", func(m *message.Message) { m.ContentTopic = "x" }, nil},
		{"topic not UTF-8", func(m *message.Message) { m.ContentTopic = "/\xff" }, message.ErrContentTopicUTF8},
		{"meta of 64", func(m *message.Message) { m.Meta = make([]byte, 64) }, nil},
		{"meta of 65", func(m *message.Message) { m.Meta = make([]byte, 65) }, message.ErrMetaTooLong},
		{"no meta", func(m *message.Message) { m.Meta = nil }, nil},
		{"version 2", func(m *message.Message) { m.Version = 2 }, nil},
		{"no timestamp", func(m *message.Message) { m.Timestamp = 0 }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := signed(1)
			tc.change(m)
			assert.Equal(t, tc.want, m.Validate())
		})
	}
}

func TestStrict(t *testing.T) {
	plain := "0a0161120162"
	for _, tc := range []struct {
		name, in string
		want     error
	}{
		{"plain", plain, nil},
		{"other order", "1201620a0161", nil},
		{"version 1", plain + "1801", nil},
		{"version 2", plain + "1802", message.ErrVersion},
		{"version 2 with upper bits", plain + "188280808010", message.ErrVersion},
		{"empty proof", plain + "aa0100", nil},
		{"proof", plain + "aa010101", message.ErrRateLimitProof},
		{"every field, all zero", plain + "180050005a00aa0100f80100", nil},
		{"unknown varint", plain + "2000", message.ErrUnknownField},
		{"unknown bytes", plain + "220100", message.ErrUnknownField},
		{"unknown fixed32", plain + "2500000000", message.ErrUnknownField},
		{"unknown fixed64", plain + "210000000000000000", message.ErrUnknownField},
		{"unknown group", plain + "2324", message.ErrUnknownField},
		{"nested groups", plain + "232b0a00082a2c24", message.ErrUnknownField},
		{"highest field", plain + "f8ffffff0f00", message.ErrUnknownField},
		{"payload as varint", plain + "0801", message.ErrUnknownField},
		{"version as bytes", plain + "1a0101", message.ErrUnknownField},
		{"payload twice", plain + "0a0161", message.ErrRepeatedField},
		{"topic twice", plain + "120162", message.ErrRepeatedField},
		{"version twice", plain + "18001801", message.ErrRepeatedField},
		{"timestamp twice", plain + "50005000", message.ErrRepeatedField},
		{"meta twice", plain + "5a005a0101", message.ErrRepeatedField},
		{"proof twice", plain + "aa0100aa0100", message.ErrRepeatedField},
		{"ephemeral twice", plain + "f80100f80101", message.ErrRepeatedField},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in, err := hex.DecodeString(tc.in)
			require.NoError(t, err)
			m, err := message.Decode(in)
			require.NoError(t, err)
			assert.NoError(t, m.Validate())
			assert.Equal(t, tc.want, m.Strict())
			assert.Equal(t, tc.want, m.Clone().Strict(), "a clone remembers")
			assert.Equal(t, "a", string(m.Payload))
			assert.Equal(t, "b", m.ContentTopic)
		})
	}
}

func TestCheckSize(t *testing.T) {
	assert.Equal(t, 153536, message.DefaultMaxSize)

	m := signed(1)
	m.Payload = make([]byte, message.DefaultMaxSize-(m.Size()-1)-2) // two more bytes of length
	require.Equal(t, message.DefaultMaxSize, m.Size())
	assert.NoError(t, m.CheckSize(message.DefaultMaxSize))

	m.Payload = append(m.Payload, 0)
	err := m.CheckSize(message.DefaultMaxSize)
	var large *message.TooLargeError
	require.ErrorAs(t, err, &large)
	assert.Equal(t, message.TooLargeError{Size: 153537, Limit: 153536}, *large)
	assert.EqualError(t, err, "message: 153537 bytes encoded, at most 153536 are allowed")
	assert.NoError(t, m.CheckSize(message.LargeMaxSize))
}

// Every mix of optional fields, absent, zero or set, keeps its bytes.
func TestPresence(t *testing.T) {
	options := [][3][]byte{
		{nil, {0x18, 0}, {0x18, 1}},
		{nil, {0x50, 0}, {0x50, 1}},
		{nil, {0x5a, 0}, {0x5a, 1, 9}},
		{nil, {0xaa, 1, 0}, {0xaa, 1, 1, 9}},
		{nil, {0xf8, 1, 0}, {0xf8, 1, 1}},
	}
	for n := range 3 * 3 * 3 * 3 * 3 {
		in := []byte{0x0a, 1, 'a', 0x12, 1, 'b'}
		zero := message.Fields(0)
		for i, choice := 0, n; i < len(options); i, choice = i+1, choice/3 {
			in = append(in, options[i][choice%3]...)
			if choice%3 == 1 {
				zero |= 1 << i
			}
		}
		m, err := message.Decode(in)
		require.NoError(t, err)
		require.Equal(t, in, m.Encode())
		require.Equal(t, len(in), m.Size())
		require.Equal(t, zero, m.Explicit)
		require.NoError(t, ignoreValues(m.Strict()))
	}
}

func TestExplicitThenSet(t *testing.T) {
	m := &message.Message{Payload: []byte("a"), ContentTopic: "b", Explicit: message.FieldTimestamp}
	require.Equal(t, "0a01611201625000", fmt.Sprintf("%x", m.Encode()))
	m.Timestamp = -1
	assert.Equal(t, "0a01611201625001", fmt.Sprintf("%x", m.Encode()), "once, with its value")
	m.Explicit = 0xff
	assert.Equal(t, m.Size(), len(m.Encode()), "bits that name no field do nothing")
}

func TestAppendTo(t *testing.T) {
	m := signed(10)
	out := m.AppendTo([]byte("before"))
	assert.Equal(t, append([]byte("before"), m.Encode()...), out)

	// Required fields are written even when they are empty.
	assert.Equal(t, []byte{0x0a, 0, 0x12, 0}, new(message.Message).Encode())
}

func TestClone(t *testing.T) {
	m := signed(10)
	m.RateLimitProof = []byte{1, 2}
	in := m.Encode()
	d, err := message.Decode(in)
	require.NoError(t, err)
	c := d.Clone()
	require.Equal(t, d, c)
	clear(in)
	assert.Equal(t, m, c)
	assert.Equal(t, make([]byte, 10), d.Payload, "what was decoded aliases its input")
	assert.Equal(t, m.ContentTopic, d.ContentTopic, "except for the topic")
}

func TestHashText(t *testing.T) {
	h := signed(1).Hash(topic)
	text := h.String()
	require.Regexp(t, "^0x[0-9a-f]{64}$", text)
	for _, s := range []string{text, "0x" + strings.ToUpper(text[2:])} {
		got, err := message.ParseHash(s)
		require.NoError(t, err)
		assert.Equal(t, h, got)
	}
	for _, s := range []string{"", "0x", text[2:], text[:65], text + "0", "0X" + text[2:], "0x" + strings.Repeat("g", 64)} {
		got, err := message.ParseHash(s)
		assert.ErrorIs(t, err, message.ErrHash, s)
		assert.Zero(t, got)
	}

	out, err := json.Marshal(map[message.Hash]message.Hash{h: h})
	require.NoError(t, err)
	var back map[message.Hash]message.Hash
	require.NoError(t, json.Unmarshal(out, &back))
	assert.Equal(t, h, back[h])
	assert.Error(t, json.Unmarshal([]byte(`"0x12"`), new(message.Hash)))
}

func TestVerdict(t *testing.T) {
	assert.Equal(t, "ignore", message.Verdict(0).String(), "saying nothing lets nothing pass")
	assert.Equal(t, "accept", message.Accept.String())
	assert.Equal(t, "reject", message.Reject.String())
	assert.Equal(t, "verdict(9)", message.Verdict(9).String())
}
