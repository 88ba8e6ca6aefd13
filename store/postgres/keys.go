package postgres

import (
	"crypto/sha256"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/status-im/shoal/message"
)

// maxTopicKey is the longest content topic that is indexed as it is. Real ones
// have 20 to 60 bytes; a row of an index can't have more than 2,700.
const maxTopicKey = 200

// topicKey is a content topic as the database knows it: its bytes, which may be
// any UTF-8, or, if it is long, a hash behind a byte that begins no UTF-8.
func topicKey(topic string) []byte {
	if len(topic) <= maxTopicKey {
		return []byte(topic)
	}
	sum := sha256.Sum256([]byte(topic))
	return append([]byte{0xff}, sum[:]...)
}

func topicKeys(topics []string) [][]byte {
	keys := make([][]byte, len(topics))
	for i, t := range topics {
		keys[i] = topicKey(t)
	}
	return keys
}

// The map from hashes to times has a hash in two halves, of which the first is
// indexed: half the index, and nobody finds two messages that share it.

func head(h message.Hash) pgtype.UUID { return pgtype.UUID{Bytes: [16]byte(h[:16]), Valid: true} }
func tail(h message.Hash) pgtype.UUID { return pgtype.UUID{Bytes: [16]byte(h[16:]), Valid: true} }
