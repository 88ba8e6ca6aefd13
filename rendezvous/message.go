package rendezvous

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/reqresp"
	"github.com/status-im/shoal/internal/wire"
)

// kind is a message's type.
type kind uint32

const (
	kindRegister kind = iota
	kindRegisterResponse
	kindUnregister
	kindDiscover
	kindDiscoverResponse
)

// The fields of Message and what it is made of.
const (
	msgType             protowire.Number = 1
	msgRegister         protowire.Number = 2
	msgRegisterResponse protowire.Number = 3
	msgUnregister       protowire.Number = 4
	msgDiscover         protowire.Number = 5
	msgDiscoverResponse protowire.Number = 6

	regNamespace protowire.Number = 1
	regRecord    protowire.Number = 2
	regTTL       protowire.Number = 3

	rrStatus protowire.Number = 1
	rrText   protowire.Number = 2
	rrTTL    protowire.Number = 3

	discNamespace protowire.Number = 1
	discLimit     protowire.Number = 2
	discCookie    protowire.Number = 3

	drRegistrations protowire.Number = 1
	drCookie        protowire.Number = 2
	drStatus        protowire.Number = 3
	drText          protowire.Number = 4
)

// register is a request to register, and a registration in an answer. What was read
// aliases its input.
type register struct {
	ns     []byte
	record []byte
	ttl    uint64 // seconds
	timed  bool   // ttl was there
}

// request is any request as it stands on the wire.
type request struct {
	kind   kind
	reg    register // of a request to register; of others the namespace
	limit  uint64
	cookie []byte
}

// response is any response.
type response struct {
	kind   kind
	status StatusCode
	text   string
	ttl    uint64 // seconds granted
	regs   []register
	more   int // registrations beyond the limit
	cookie []byte
}

// appendRequest writes a request. Zeros are written where nwaku can't do without.
func appendRequest(b []byte, r request) []byte {
	b = wire.AppendVarint(b, msgType, uint64(r.kind))
	switch r.kind {
	case kindRegister:
		b = appendRegister(b, msgRegister, r.reg)
	case kindUnregister:
		b = wire.AppendLength(b, msgUnregister, wire.SizeBytes(regNamespace, len(r.reg.ns)))
		b = wire.AppendBytes(b, regNamespace, r.reg.ns)
	case kindDiscover:
		size := wire.SizeVarint(discLimit, r.limit)
		if len(r.reg.ns) > 0 {
			size += wire.SizeBytes(discNamespace, len(r.reg.ns))
		}
		if len(r.cookie) > 0 {
			size += wire.SizeBytes(discCookie, len(r.cookie))
		}
		b = wire.AppendLength(b, msgDiscover, size)
		if len(r.reg.ns) > 0 { // an empty one is refused, none means all
			b = wire.AppendBytes(b, discNamespace, r.reg.ns)
		}
		b = wire.AppendVarint(b, discLimit, r.limit)
		if len(r.cookie) > 0 {
			b = wire.AppendBytes(b, discCookie, r.cookie)
		}
	}
	return b
}

func appendRegister(b []byte, num protowire.Number, r register) []byte {
	b = wire.AppendLength(b, num, r.size())
	b = wire.AppendBytes(b, regNamespace, r.ns)
	b = wire.AppendBytes(b, regRecord, r.record)
	return wire.AppendVarint(b, regTTL, r.ttl)
}

func (r register) size() int {
	return wire.SizeBytes(regNamespace, len(r.ns)) + wire.SizeBytes(regRecord, len(r.record)) + wire.SizeVarint(regTTL, r.ttl)
}

// appendResponse writes a response.
func appendResponse(b []byte, r response) []byte {
	b = wire.AppendVarint(b, msgType, uint64(r.kind))
	text := 0
	if r.text != "" {
		text = wire.SizeBytes(rrText, len(r.text)) // as long as that of drText
	}
	if r.kind == kindRegisterResponse {
		b = wire.AppendLength(b, msgRegisterResponse, wire.SizeVarint(rrStatus, uint64(r.status))+text+wire.SizeVarint(rrTTL, r.ttl))
		b = wire.AppendVarint(b, rrStatus, uint64(r.status))
		if r.text != "" {
			b = wire.AppendBytes(b, rrText, []byte(r.text))
		}
		return wire.AppendVarint(b, rrTTL, r.ttl)
	}
	size := text + wire.SizeVarint(drStatus, uint64(r.status))
	for _, g := range r.regs {
		size += wire.SizeBytes(drRegistrations, g.size())
	}
	if len(r.cookie) > 0 {
		size += wire.SizeBytes(drCookie, len(r.cookie))
	}
	b = wire.AppendLength(b, msgDiscoverResponse, size)
	for _, g := range r.regs {
		b = appendRegister(b, drRegistrations, g)
	}
	if len(r.cookie) > 0 {
		b = wire.AppendBytes(b, drCookie, r.cookie)
	}
	b = wire.AppendVarint(b, drStatus, uint64(r.status))
	if r.text != "" {
		b = wire.AppendBytes(b, drText, []byte(r.text))
	}
	return b
}

// parts are a message's bodies by their field.
type parts [msgDiscoverResponse + 1][]byte

// split reads a message's type and finds its bodies. Of a field that occurs twice
// the last counts; others are skipped. Without a type it is the first of them.
func split(b []byte) (k kind, p parts, err error) {
	err = wire.Fields(b, func(f wire.Field) (err error) {
		switch {
		case f.Num == msgType:
			var v uint64
			v, err = f.Varint("type")
			k = kind(min(v, math.MaxUint32))
		case f.Num <= msgDiscoverResponse:
			p[f.Num], err = f.Raw("a body")
		}
		return err
	})
	return k, p, err
}

// decodeRequest reads a request.
func decodeRequest(b []byte) (r request, err error) {
	k, p, err := split(b)
	if err != nil {
		return request{}, err
	}
	var body []byte
	switch k {
	case kindRegister:
		body = p[msgRegister]
	case kindUnregister:
		body = p[msgUnregister]
	case kindDiscover:
		body = p[msgDiscover]
	default:
		return request{}, wire.Malformed("%d is no request", k)
	}
	if body == nil && k != kindDiscover {
		return request{}, wire.Malformed("there is no body")
	}
	r.kind = k
	if k == kindRegister {
		r.reg, err = decodeRegister(body)
	} else {
		err = wire.Fields(body, func(f wire.Field) (err error) {
			switch {
			case f.Num == discNamespace:
				r.reg.ns, err = f.Raw("ns")
			case f.Num == discLimit && k == kindDiscover:
				r.limit, err = f.Varint("limit")
			case f.Num == discCookie && k == kindDiscover:
				r.cookie, err = f.Raw("cookie")
			}
			return err
		})
	}
	if err != nil {
		return request{}, err
	}
	return r, nil
}

func decodeRegister(b []byte) (r register, err error) {
	err = wire.Fields(b, func(f wire.Field) (err error) {
		switch f.Num {
		case regNamespace:
			r.ns, err = f.Raw("ns")
		case regRecord:
			r.record, err = f.Raw("signedPeerRecord")
		case regTTL:
			r.ttl, err = f.Varint("ttl")
			r.timed = true
		}
		return err
	})
	if err != nil {
		return register{}, err
	}
	return r, nil
}

// decodeResponse reads a response of the kind that is waited for, with the first
// registrations of it, so many at most. One that can't be read spoils no others.
// The error is ErrMalformed.
func decodeResponse(b []byte, want kind, limit int) (response, error) {
	k, p, err := split(b)
	if err != nil {
		return response{}, err
	}
	body := p[msgDiscoverResponse]
	if want == kindRegisterResponse {
		body = p[msgRegisterResponse]
	}
	if k != want || body == nil {
		return response{}, wire.Malformed("it is no answer to the question")
	}
	var (
		r      = response{kind: k}
		status uint64
		text   []byte
	)
	if want == kindDiscoverResponse {
		r.regs = make([]register, 0, count(body, drRegistrations, limit))
	}
	err = wire.Fields(body, func(f wire.Field) (err error) {
		switch want {
		case kindRegisterResponse:
			switch f.Num {
			case rrStatus:
				status, err = f.Varint("status")
			case rrText:
				text, err = f.Raw("statusText")
			case rrTTL:
				r.ttl, err = f.Varint("ttl")
			}
		default:
			switch f.Num {
			case drRegistrations:
				var raw []byte
				if raw, err = f.Raw("registrations"); err != nil {
					break
				}
				if len(r.regs) >= limit {
					r.more++
					break
				}
				g, _ := decodeRegister(raw)
				r.regs = append(r.regs, g)
			case drCookie:
				r.cookie, err = f.Raw("cookie")
			case drStatus:
				status, err = f.Varint("status")
			case drText:
				text, err = f.Raw("statusText")
			}
		}
		return err
	})
	if err != nil {
		return response{}, err
	}
	r.status = StatusCode(min(status, math.MaxUint32))
	r.text = reqresp.Printable(string(text[:min(len(text), reqresp.MaxWords)]))
	return r, nil
}

// count counts the fields of that number, limit at most.
func count(b []byte, num protowire.Number, limit int) (n int) {
	wire.Fields(b, func(f wire.Field) error {
		if f.Num == num && n < limit {
			n++
		}
		return nil
	})
	return n
}
