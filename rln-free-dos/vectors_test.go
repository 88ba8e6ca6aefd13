package dosguard_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

func TestSignatureVectors(t *testing.T) {
	vectors := readVectors(t).Vectors
	require.NotEmpty(t, vectors)
	for _, v := range vectors {
		t.Run(v.ID, func(t *testing.T) {
			m := &message.Message{
				Payload:      v.Input.Payload,
				ContentTopic: v.Input.ContentTopic,
				Timestamp:    int64(v.Input.Timestamp),
				Ephemeral:    v.Input.Ephemeral,
			}
			digest := dosguard.Digest(v.Input.PubsubTopic, m)
			assert.Equal(t, []byte(v.Expected.Digest), digest[:])

			key := privateKey(t, v.Input.PrivateKey)
			assert.Equal(t, v.Input.Compressed, key.PublicKey().Hex())
			require.NoError(t, key.Sign(v.Input.PubsubTopic, m))
			assert.Equal(t, []byte(v.Expected.Meta), m.Meta)
			assert.Equal(t, []byte(v.Expected.Signature), key.SignDigest(digest))

			public, err := dosguard.ParsePublicKey(v.Input.Uncompressed)
			require.NoError(t, err)
			assert.True(t, public.Equal(key.PublicKey()))
			assert.True(t, public.Verify(digest, m.Meta))
		})
	}
}

func TestSignatureNegatives(t *testing.T) {
	negatives := readVectors(t).Negatives
	require.NotEmpty(t, negatives)
	for _, v := range negatives {
		t.Run(v.ID, func(t *testing.T) {
			public, err := dosguard.ParsePublicKey(v.Input.PublicKey)
			require.NoError(t, err)
			assert.Equal(t, v.Expected.Verify, public.Verify([32]byte(v.Input.Digest), v.Input.Signature))
		})
	}
}

// What other validators refuse, ours refuses; but where only a clock is to blame
// it doesn't reject.
func TestValidatorGate(t *testing.T) {
	ours := map[string]dosguard.Reason{
		"5m01s-old":      dosguard.ReasonOutsideWindow,
		"5m01s-ahead":    dosguard.ReasonOutsideWindow,
		"timestamp-zero": dosguard.ReasonNoTimestamp,
		"no-meta":        dosguard.ReasonNoSignature,
		"meta-63-bytes":  dosguard.ReasonMalformedSignature,
		"meta-65-bytes":  dosguard.ReasonMalformedSignature,
		// Left open by them; we count the border in.
		"exactly-5m-old": dosguard.ReasonAccepted,
	}
	gate := readVectors(t).Gate
	require.NotEmpty(t, gate)
	for _, v := range gate {
		t.Run(v.ID, func(t *testing.T) {
			public, err := dosguard.ParsePublicKey(v.Input.PublicKey)
			require.NoError(t, err)
			s := dosguard.NewSigned(dosguard.SignedConfig{
				Keys: dosguard.NewRegistry(public),
				Now:  func() time.Time { return time.Unix(0, int64(v.Input.Now)) },
			})
			verdict, reason := admitFor(t, s, &message.Received{
				PubsubTopic: v.Input.PubsubTopic,
				From:        "forwarder",
				Message: &message.Message{
					Payload:      v.Input.Payload,
					ContentTopic: v.Input.ContentTopic,
					Timestamp:    int64(v.Input.Timestamp),
					Meta:         v.Input.Meta,
					Ephemeral:    v.Input.Ephemeral,
				},
			})
			if v.Expected != "implementation-defined" {
				assert.Equal(t, v.Expected == "accept", verdict == message.Accept, "accepted as by others")
			}
			assert.Equal(t, ours[v.ID], reason)
			assert.Equal(t, reason.Verdict(), verdict)
		})
	}
}
