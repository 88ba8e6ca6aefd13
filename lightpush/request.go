package lightpush

import (
	"cmp"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
)

// The fields of LightPushRequest, version 3, and of PushRpc and PushRequest,
// version 2.
const (
	reqID      protowire.Number = 1
	reqTopic   protowire.Number = 20
	reqMessage protowire.Number = 21

	rpcID       protowire.Number = 1
	rpcRequest  protowire.Number = 2
	rpcResponse protowire.Number = 3

	legacyTopic   protowire.Number = 1
	legacyMessage protowire.Number = 2
)

// request is a push in either version. It aliases what it was read from.
type request struct {
	id       string
	topic    string
	hasTopic bool
	message  []byte // encoded; nil: none
}

// appendRequest writes a request of version 3.
func appendRequest(b []byte, id, topic string, m *message.Message) []byte {
	b = wire.AppendString(b, reqID, id)
	b = wire.AppendString(b, reqTopic, topic)
	return m.AppendTo(wire.AppendLength(b, reqMessage, m.Size()))
}

// appendLegacyRequest writes a request of version 2.
func appendLegacyRequest(b []byte, id, topic string, m *message.Message) []byte {
	size := m.Size()
	b = wire.AppendString(b, rpcID, id)
	b = wire.AppendLength(b, rpcRequest, wire.SizeBytes(legacyTopic, len(topic))+wire.SizeBytes(legacyMessage, size))
	b = wire.AppendString(b, legacyTopic, topic)
	return m.AppendTo(wire.AppendLength(b, legacyMessage, size))
}

// decodeRequest reads a request of version 3. Beside the error it returns the id, if
// there is one to read. Of a field that occurs twice the last counts. Unknown fields
// are skipped.
func decodeRequest(b []byte) (request, error) {
	var r request
	err := r.read(b, func(f wire.Field) (err error) {
		switch f.Num {
		case reqTopic:
			r.topic, err = f.Text("pubsub_topic")
			r.hasTopic = true
		case reqMessage:
			r.message, err = f.Raw("message")
		}
		return err
	})
	return r, err
}

// decodeLegacyRequest is decodeRequest for version 2, where a topic that isn't there
// is one that is empty.
func decodeLegacyRequest(b []byte) (request, error) {
	var (
		r     request
		inner []byte
	)
	err := r.read(b, func(f wire.Field) (err error) {
		if f.Num == rpcRequest {
			inner, err = f.Raw("request")
		}
		return err
	})
	if err != nil {
		return r, err
	}
	if inner == nil {
		return r, wire.Malformed("there is no request")
	}
	r.hasTopic = true
	return r, wire.Fields(inner, func(f wire.Field) (err error) {
		switch f.Num {
		case legacyTopic:
			r.topic, err = f.Text("pubsub_topic")
		case legacyMessage:
			r.message, err = f.Raw("message")
		}
		return err
	})
}

// read calls set for each field that isn't the id, until it fails. The id is looked
// for in any case, and has the same number in both versions.
func (r *request) read(b []byte, set func(f wire.Field) error) error {
	var wrong error // the first thing that doesn't keep us from reading on
	err := wire.Fields(b, func(f wire.Field) error {
		switch {
		case f.Num == reqID && (wrong == nil || isID(f)):
			id, err := idOf(f)
			r.id, wrong = id, cmp.Or(wrong, err)
		case f.Num != reqID && wrong == nil:
			wrong = set(f)
		}
		return nil
	})
	return cmp.Or(wrong, err)
}
