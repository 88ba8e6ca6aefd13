package dosguard_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

// signedBy is an independent look at a signature.
func signedBy(t testing.TB, key *dosguard.PublicKey, m *message.Message) bool {
	pub, err := secp256k1.ParsePubKey(key.Bytes())
	require.NoError(t, err)
	var r, s secp256k1.ModNScalar
	if len(m.Meta) != 64 || r.SetByteSlice(m.Meta[:32]) || s.SetByteSlice(m.Meta[32:]) || s.IsOverHalfOrder() {
		return false
	}
	digest := dosguard.Digest(topic, m)
	return ecdsa.NewSignature(&r, &s).Verify(digest[:], pub)
}

// checkAccepted holds against a message that was accepted whatever it must fulfil.
func checkAccepted(t testing.TB, key *dosguard.PublicKey, m *message.Message, now time.Time) {
	t.Helper()
	require.True(t, signedBy(t, key, m))
	require.NoError(t, m.Validate())
	require.NoError(t, m.Strict())
	require.Equal(t, 4, strings.Count(m.ContentTopic, "/"))
	require.Equal(t, byte('/'), m.ContentTopic[0])
	age := now.Sub(time.Unix(0, m.Timestamp))
	require.LessOrEqual(t, age.Abs(), dosguard.DefaultWindow)
}

// FuzzValidate judges arbitrary bytes as the relay does: no panic, and what is
// accepted is signed, in the window, of the strict form, and accepted once.
func FuzzValidate(f *testing.F) {
	key := communityKey(f)
	for _, m := range []*message.Message{
		newMessage(f, key, start, "hello"), newMessage(f, nil, start, "unsigned"),
		newMessage(f, key, start.Add(time.Hour), "early"), newMessage(f, strangerKey(f), start, "forged"), {},
	} {
		f.Add(m.Encode(), int64(0))
		f.Add(append(m.Encode(), varintField(3, 1)...), int64(dosguard.DefaultWindow))
		f.Add(append(m.Encode(), bytesField(21, []byte("proof"))...), int64(-1))
	}
	f.Fuzz(func(t *testing.T, wire []byte, offset int64) {
		m, err := message.Decode(wire)
		if err != nil {
			return
		}
		c := newClock()
		c.add(time.Duration(offset))
		s := c.signed(key.PublicKey())
		in := received(m)
		screened := s.Screen(in)
		v := s.Validate(context.Background(), in)
		if screened != message.Accept {
			require.Equal(t, screened, v, "Validate does what Screen does")
		}
		err = s.Verify(topic, m, true)
		require.Equal(t, v == message.Accept, err == nil)
		if v == message.Accept {
			checkAccepted(t, key.PublicKey(), m, c.now())
			require.Equal(t, message.Ignore, s.Validate(context.Background(), in))
		}
	})
}

// FuzzScreen judges messages put together from arbitrary parts, signed or not.
func FuzzScreen(f *testing.F) {
	key := communityKey(f)
	s := newClock().signed(key.PublicKey())
	f.Add([]byte("hello"), contentTopic, start.UnixNano(), []byte(nil), uint32(0), []byte(nil), false, true)
	f.Add([]byte(""), "/a/b/c", int64(0), make([]byte, 64), uint32(2), []byte("proof"), true, false)
	f.Add([]byte("/a"), "//", int64(math.MinInt64), make([]byte, 63), uint32(1), []byte(nil), true, false)
	f.Add([]byte("x"), "/a/1/b/c", int64(math.MaxInt64), make([]byte, 65), uint32(1), []byte(nil), false, true)
	f.Fuzz(func(t *testing.T, payload []byte, ct string, timestamp int64, meta []byte, version uint32, proof []byte, ephemeral, sign bool) {
		m := &message.Message{
			Payload: payload, ContentTopic: ct, Timestamp: timestamp, Meta: meta,
			Version: version, RateLimitProof: proof, Ephemeral: ephemeral,
		}
		if sign && timestamp != 0 {
			require.NoError(t, key.Sign(topic, m))
		}
		in := received(m)
		screened := s.Screen(in)
		v := s.Validate(context.Background(), in)
		if screened != message.Accept {
			require.Equal(t, screened, v)
		}
		if v == message.Accept {
			checkAccepted(t, key.PublicKey(), m, start)
		}
		if v == message.Reject {
			// Nothing that is signed and stamped is ever rejected.
			require.False(t, m.Timestamp != 0 && signedBy(t, key.PublicKey(), m))
		}
	})
}
