package message_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/status-im/shoal/message"
)

// sameMessage compares m with what the protobuf library read.
func sameMessage(ref protoreflect.Message, m *message.Message) error {
	fields := descriptor.Fields()
	get := func(name protoreflect.Name) protoreflect.Value { return ref.Get(fields.ByName(name)) }
	zero := message.Fields(0)
	for i, name := range []protoreflect.Name{"version", "timestamp", "meta", "rate_limit_proof", "ephemeral"} {
		fd := fields.ByName(name)
		if v := ref.Get(fd); ref.Has(fd) && (v.Equal(fd.Default()) || fd.Kind() == protoreflect.BytesKind && len(v.Bytes()) == 0) {
			zero |= 1 << i
		}
	}
	switch {
	case !bytes.Equal(get("payload").Bytes(), m.Payload):
		return errors.New("payload differs")
	case get("content_topic").String() != m.ContentTopic:
		return errors.New("content topic differs")
	case uint32(get("version").Uint()) != m.Version:
		return errors.New("version differs")
	case get("timestamp").Int() != m.Timestamp:
		return errors.New("timestamp differs")
	case !bytes.Equal(get("meta").Bytes(), m.Meta):
		return errors.New("meta differs")
	case !bytes.Equal(get("rate_limit_proof").Bytes(), m.RateLimitProof):
		return errors.New("rate limit proof differs")
	case get("ephemeral").Bool() != m.Ephemeral:
		return errors.New("ephemeral differs")
	case zero != m.Explicit:
		return fmt.Errorf("explicit zeros: %05b, should be %05b", m.Explicit, zero)
	case (len(ref.GetUnknown()) > 0) != errors.Is(m.Strict(), message.ErrUnknownField):
		return errors.New("unknown fields differ")
	}
	return nil
}

func FuzzDecode(f *testing.F) {
	for _, v := range readVectors(f).Wire.Encodings {
		f.Add([]byte(v.Message))
	}
	f.Add(signed(16).Encode())
	f.Add([]byte("\x23\x2b\x08\x00\x2c\x24"))
	f.Add([]byte("\x0a\x01a\x0a\x01b\x12\x01c\x08\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := message.Decode(in)
		if err != nil {
			require.ErrorIs(t, err, message.ErrMalformed)
			require.Error(t, reference(in, nil), "%v", err)
			return
		}
		require.NoError(t, reference(in, m))
		held := len(m.Payload) + len(m.ContentTopic) + len(m.Meta) + len(m.RateLimitProof)
		require.LessOrEqual(t, held, len(in))

		out := m.Encode()
		require.Len(t, out, m.Size())
		again, err := message.Decode(out)
		require.NoError(t, err)
		require.Equal(t, out, again.Encode(), "encoding has one form")
		require.Equal(t, m.Hash(topic), again.Hash(topic))
		require.NoError(t, ignoreValues(again.Strict()), "what we write is clean")
	})
}

// ignoreValues leaves the findings that are about the wire.
func ignoreValues(err error) error {
	if errors.Is(err, message.ErrVersion) || errors.Is(err, message.ErrRateLimitProof) {
		return nil
	}
	return err
}

func FuzzParseHash(f *testing.F) {
	f.Add(message.Hash{1, 2, 3}.String())
	f.Add("0x")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := message.ParseHash(s)
		if err != nil {
			assert.ErrorIs(t, err, message.ErrHash)
			return
		}
		back, err := message.ParseHash(h.String())
		require.NoError(t, err)
		require.Equal(t, h, back)
		require.Len(t, s, len(h.String()))
	})
}
