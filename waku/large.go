package waku

import (
	"context"
	"errors"
	"fmt"

	"github.com/status-im/shoal/message/segment"
)

// SegmentSize sets how many bytes of payload go into one segment, for
// [Membership.SendLarge]. Default: three quarters of the network's largest message, as
// Status does it. Where nodes with nwaku's defaults carry the shard it must be
// 115200 at most.
func SegmentSize(bytes int) SendOption { return func(c *sendConfig) { c.segment = bytes } }

// SealWith has [Membership.SendLarge] send what seal makes of each segment, or of a
// payload that needs none: it encrypts, say. Readers need the reverse of it.
func SealWith(seal func([]byte) ([]byte, error)) SendOption {
	return func(c *sendConfig) { c.seal = seal }
}

// LargeDelivery is a payload on its way, whole or in segments.
type LargeDelivery struct {
	// Whole is the keccak256 of the payload.
	Whole segment.Hash
	// Size is the payload's length, in bytes.
	Size int
	// Parts are the messages: one, or data segments and then parity.
	Parts []*Delivery
	// Parity is how many of them may be lost.
	Parity int
}

// Wait waits until the parts are Propagated or Stored. Of those beyond the data as many
// may fail as there is parity; the error is that of the parts that failed. When ctx ends
// before, it is ctx's, and the parts go on.
func (d *LargeDelivery) Wait(ctx context.Context, state DeliveryState) error {
	var failed []error
	for i, part := range d.Parts {
		err := part.Wait(ctx, state)
		switch {
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil:
			failed = append(failed, fmt.Errorf("part %d of %d: %w", i+1, len(d.Parts), err))
		}
	}
	if len(failed) <= d.Parity {
		return nil
	}
	return errors.Join(failed...)
}

// SendLarge is [Membership.Send] for payloads of any size up to 256 segments: one that
// is too large for a message goes in several, as Status cuts them, with parity for some
// that may be lost. Receivers put it together: see [Membership.Latest], or package
// segment. Each part is a message of its own, with the same options. When one can't be
// sent, the error is that one's, and what was sent until then is returned with it.
//
// Errors: *[segment.TooLargeError], seal's, and those of Send.
func (m *Membership) SendLarge(ctx context.Context, contentTopic string, payload []byte, opts ...SendOption) (*LargeDelivery, error) {
	cfg := newSendConfig(contentTopic, payload, opts)
	if cfg.segment == 0 {
		cfg.segment = segment.Size(m.shard.node.relay.MaxMessageSize())
	}
	segments, err := segment.Split(payload, cfg.segment)
	if err != nil {
		return nil, err
	}
	d := &LargeDelivery{Whole: segment.Sum(payload), Size: len(payload)}
	bodies := [][]byte{payload}
	if len(segments) > 0 {
		bodies = nil
		d.Parity = len(segments) - segments[0].Count
	}
	for _, s := range segments {
		bodies = append(bodies, s.Encode())
	}
	for i, body := range bodies {
		if cfg.seal != nil {
			if body, err = cfg.seal(body); err != nil {
				return d, fmt.Errorf("waku: sealing part %d of %d: %w", i+1, len(bodies), err)
			}
		}
		part, err := m.Send(ctx, contentTopic, body, opts...)
		if err != nil {
			return d, fmt.Errorf("waku: part %d of %d: %w", i+1, len(bodies), err)
		}
		d.Parts = append(d.Parts, part)
	}
	return d, nil
}
