package rendezvous

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
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
	b = appendVarint(b, msgType, uint64(r.kind))
	switch r.kind {
	case kindRegister:
		b = appendRegister(b, msgRegister, r.reg)
	case kindUnregister:
		b = appendLength(b, msgUnregister, sizeBytes(regNamespace, len(r.reg.ns)))
		b = appendBytes(b, regNamespace, r.reg.ns)
	case kindDiscover:
		size := sizeVarint(discLimit, r.limit)
		if len(r.reg.ns) > 0 {
			size += sizeBytes(discNamespace, len(r.reg.ns))
		}
		if len(r.cookie) > 0 {
			size += sizeBytes(discCookie, len(r.cookie))
		}
		b = appendLength(b, msgDiscover, size)
		if len(r.reg.ns) > 0 { // an empty one is refused, none means all
			b = appendBytes(b, discNamespace, r.reg.ns)
		}
		b = appendVarint(b, discLimit, r.limit)
		if len(r.cookie) > 0 {
			b = appendBytes(b, discCookie, r.cookie)
		}
	}
	return b
}

func appendRegister(b []byte, num protowire.Number, r register) []byte {
	b = appendLength(b, num, r.size())
	b = appendBytes(b, regNamespace, r.ns)
	b = appendBytes(b, regRecord, r.record)
	return appendVarint(b, regTTL, r.ttl)
}

func (r register) size() int {
	return sizeBytes(regNamespace, len(r.ns)) + sizeBytes(regRecord, len(r.record)) + sizeVarint(regTTL, r.ttl)
}

// appendResponse writes a response.
func appendResponse(b []byte, r response) []byte {
	b = appendVarint(b, msgType, uint64(r.kind))
	text := 0
	if r.text != "" {
		text = sizeBytes(rrText, len(r.text)) // as long as that of drText
	}
	if r.kind == kindRegisterResponse {
		b = appendLength(b, msgRegisterResponse, sizeVarint(rrStatus, uint64(r.status))+text+sizeVarint(rrTTL, r.ttl))
		b = appendVarint(b, rrStatus, uint64(r.status))
		if r.text != "" {
			b = appendBytes(b, rrText, []byte(r.text))
		}
		return appendVarint(b, rrTTL, r.ttl)
	}
	size := text + sizeVarint(drStatus, uint64(r.status))
	for _, g := range r.regs {
		size += sizeBytes(drRegistrations, g.size())
	}
	if len(r.cookie) > 0 {
		size += sizeBytes(drCookie, len(r.cookie))
	}
	b = appendLength(b, msgDiscoverResponse, size)
	for _, g := range r.regs {
		b = appendRegister(b, drRegistrations, g)
	}
	if len(r.cookie) > 0 {
		b = appendBytes(b, drCookie, r.cookie)
	}
	b = appendVarint(b, drStatus, uint64(r.status))
	if r.text != "" {
		b = appendBytes(b, drText, []byte(r.text))
	}
	return b
}

// parts are a message's bodies by their field.
type parts [msgDiscoverResponse + 1][]byte

// split reads a message's type and finds its bodies. Of a field that occurs twice
// the last counts; others are skipped. Without a type it is the first of them.
func split(b []byte) (k kind, p parts, err error) {
	err = fields(b, func(f field) (err error) {
		switch {
		case f.num == msgType:
			var v uint64
			v, err = f.varint("type")
			k = kind(min(v, math.MaxUint32))
		case f.num <= msgDiscoverResponse:
			p[f.num], err = f.raw("a body")
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
		return request{}, malformed("%d is no request", k)
	}
	if body == nil && k != kindDiscover {
		return request{}, malformed("there is no body")
	}
	r.kind = k
	if k == kindRegister {
		r.reg, err = decodeRegister(body)
	} else {
		err = fields(body, func(f field) (err error) {
			switch {
			case f.num == discNamespace:
				r.reg.ns, err = f.raw("ns")
			case f.num == discLimit && k == kindDiscover:
				r.limit, err = f.varint("limit")
			case f.num == discCookie && k == kindDiscover:
				r.cookie, err = f.raw("cookie")
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
	err = fields(b, func(f field) (err error) {
		switch f.num {
		case regNamespace:
			r.ns, err = f.raw("ns")
		case regRecord:
			r.record, err = f.raw("signedPeerRecord")
		case regTTL:
			r.ttl, err = f.varint("ttl")
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
		return response{}, malformed("it is no answer to the question")
	}
	var (
		r      = response{kind: k}
		status uint64
		text   []byte
	)
	if want == kindDiscoverResponse {
		r.regs = make([]register, 0, count(body, drRegistrations, limit))
	}
	err = fields(body, func(f field) (err error) {
		switch want {
		case kindRegisterResponse:
			switch f.num {
			case rrStatus:
				status, err = f.varint("status")
			case rrText:
				text, err = f.raw("statusText")
			case rrTTL:
				r.ttl, err = f.varint("ttl")
			}
		default:
			switch f.num {
			case drRegistrations:
				var raw []byte
				if raw, err = f.raw("registrations"); err != nil {
					break
				}
				if len(r.regs) >= limit {
					r.more++
					break
				}
				g, _ := decodeRegister(raw)
				r.regs = append(r.regs, g)
			case drCookie:
				r.cookie, err = f.raw("cookie")
			case drStatus:
				status, err = f.varint("status")
			case drText:
				text, err = f.raw("statusText")
			}
		}
		return err
	})
	if err != nil {
		return response{}, err
	}
	r.status = StatusCode(min(status, math.MaxUint32))
	r.text = printable(string(text[:min(len(text), maxDesc)]))
	return r, nil
}

// count counts the fields of that number, limit at most.
func count(b []byte, num protowire.Number, limit int) (n int) {
	fields(b, func(f field) error {
		if f.num == num && n < limit {
			n++
		}
		return nil
	})
	return n
}
