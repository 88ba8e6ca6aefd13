package postgres

import (
	"encoding/binary"
	"fmt"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
)

// A record in the spool is
//
//	1 byte    recordVersion
//	4 bytes   shard, see shardKey
//	32 bytes  hash
//	the rest  the encoded message
const (
	recordVersion = 1
	recordHeader  = 1 + 4 + 32
)

func encodeRecord(e store.Entry) []byte {
	b := make([]byte, 0, recordHeader+e.Message.Size())
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(shardKey(e.Shard)))
	b = append(b, e.Hash[:]...)
	return e.Message.AppendTo(b)
}

// row is a message on its way to the database. Its slices alias the record.
type row struct {
	ts      int64
	shard   int32
	hash    []byte
	topic   []byte
	message []byte
}

func decodeRecord(b []byte) (row, error) {
	if len(b) < recordHeader {
		return row{}, fmt.Errorf("a record of %d bytes", len(b))
	}
	if b[0] != recordVersion {
		return row{}, fmt.Errorf("a record of version %d", b[0])
	}
	m, err := message.Decode(b[recordHeader:])
	if err != nil {
		return row{}, err
	}
	return row{
		ts:      m.Timestamp,
		shard:   int32(binary.BigEndian.Uint32(b[1:])),
		hash:    b[5:recordHeader],
		topic:   topicKey(m.ContentTopic),
		message: b[recordHeader:],
	}, nil
}

// shardKey is a shard as the database knows it.
func shardKey(s sharding.Shard) int32 { return int32(uint32(s.Cluster)<<16 | uint32(s.Index)) }

func shardOf(key int32) sharding.Shard {
	return sharding.Shard{Cluster: uint16(uint32(key) >> 16), Index: uint16(uint32(key))}
}
