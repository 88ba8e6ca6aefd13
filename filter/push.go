package filter

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
)

// The fields of MessagePush.
const (
	pushMessage     protowire.Number = 1
	pushPubsubTopic protowire.Number = 2
)

// pushOverhead is room for all of a push but its message, in bytes.
const pushOverhead = 1 << 10

// newFrame is a push as it goes out, its length before it.
func newFrame(pubsubTopic string, m *message.Message) []byte {
	size := m.Size()
	n := 1 + protowire.SizeBytes(size) + 1 + protowire.SizeBytes(len(pubsubTopic))
	b := make([]byte, 0, protowire.SizeVarint(uint64(n))+n)
	b = protowire.AppendVarint(b, uint64(n))
	b = protowire.AppendTag(b, pushMessage, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = m.AppendTo(b)
	return wire.AppendString(b, pushPubsubTopic, pubsubTopic)
}

// push is a MessagePush; message aliases what it was read from.
type push struct {
	message     []byte // encoded; nil: there was none
	pubsubTopic string
}

// decodePush reads a push. Of each field the last counts, unknown ones are
// skipped. The error is ErrMalformed.
func decodePush(b []byte) (push, error) {
	var p push
	err := wire.Fields(b, func(f wire.Field) (err error) {
		switch f.Num {
		case pushMessage:
			p.message, err = f.Raw("waku_message")
			p.message = p.message[:len(p.message):len(p.message)]
		case pushPubsubTopic:
			p.pubsubTopic, err = f.Text("pubsub_topic")
		}
		return err
	})
	if err == nil && p.message == nil {
		err = wire.Malformed("a push without a message")
	}
	if err != nil {
		return push{}, err
	}
	return p, nil
}
