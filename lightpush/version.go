package lightpush

import (
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/status-im/shoal/message"
)

// version is a version of the protocol.
type version struct {
	number         int
	id             protocol.ID
	appendRequest  func(b []byte, id, topic string, m *message.Message) []byte
	decodeRequest  func(b []byte) (request, error)
	appendResponse func(b []byte, r response) []byte
	decodeResponse func(b []byte) (response, error)
}

var (
	current = &version{3, ID, appendRequest, decodeRequest, appendResponse, decodeResponse}
	legacy  = &version{2, LegacyID, appendLegacyRequest, decodeLegacyRequest, appendLegacyResponse, decodeLegacyResponse}
)
