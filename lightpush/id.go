package lightpush

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
)

// idOf reads a request id.
func idOf(f wire.Field) (string, error) {
	if len(f.Bytes) > maxID {
		return "", wire.Malformed("request_id is longer than %d bytes", maxID)
	}
	return f.Text("request_id")
}

// isID says whether idOf has no error.
func isID(f wire.Field) bool {
	return f.Type == protowire.BytesType && len(f.Bytes) <= maxID && utf8.Valid(f.Bytes)
}
