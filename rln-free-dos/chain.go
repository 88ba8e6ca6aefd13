package dosguard

import (
	"context"

	"github.com/status-im/shoal/message"
)

// Chain returns a validator that asks the given ones in turn until one doesn't
// accept; put the cheap ones first. A verdict that is none is Ignore, and so is a
// nil validator: a guard that is missing lets nothing pass. Without validators
// everything passes.
func Chain(validators ...message.Validator) message.Validator {
	return func(ctx context.Context, in *message.Received) message.Verdict {
		for _, v := range validators {
			if v == nil || ctx.Err() != nil {
				return message.Ignore
			}
			if verdict := v(ctx, in); verdict != message.Accept {
				return known(verdict)
			}
		}
		return message.Accept
	}
}

// ScreenChain is [Chain] for screens.
func ScreenChain(screens ...message.Screen) message.Screen {
	return func(in *message.Received) message.Verdict {
		for _, s := range screens {
			if s == nil {
				return message.Ignore
			}
			if verdict := s(in); verdict != message.Accept {
				return known(verdict)
			}
		}
		return message.Accept
	}
}

// FromScreen returns a screen as a validator, for a Chain.
func FromScreen(s message.Screen) message.Validator {
	return func(_ context.Context, in *message.Received) message.Verdict {
		if s == nil {
			return message.Ignore
		}
		return known(s(in))
	}
}

// MaxSize returns a screen that ignores messages of more than n bytes encoded,
// and counts them if counters isn't nil. Limits are a network's choice, so nobody
// is blamed.
func MaxSize(n int, counters *Counters) message.Screen {
	return func(in *message.Received) message.Verdict {
		switch {
		case in == nil || in.Message == nil:
			counters.add(ReasonNoMessage)
		case in.Message.Size() > n:
			counters.add(ReasonTooLarge)
		default:
			return message.Accept
		}
		return message.Ignore
	}
}

// known makes of what isn't a verdict Ignore.
func known(v message.Verdict) message.Verdict {
	if v == message.Accept || v == message.Reject {
		return v
	}
	return message.Ignore
}
