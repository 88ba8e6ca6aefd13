package dosguard_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

func TestChain(t *testing.T) {
	says := func(v message.Verdict) message.Validator {
		return func(context.Context, *message.Received) message.Verdict { return v }
	}
	screens := func(v message.Verdict) message.Screen {
		return func(*message.Received) message.Verdict { return v }
	}
	const garbage = message.Verdict(77)
	for _, c := range []struct {
		in   []message.Verdict
		want message.Verdict
	}{
		{nil, message.Accept},
		{[]message.Verdict{message.Accept}, message.Accept},
		{[]message.Verdict{message.Accept, message.Ignore, message.Reject}, message.Ignore},
		{[]message.Verdict{message.Accept, message.Reject, message.Ignore}, message.Reject},
		{[]message.Verdict{message.Accept, garbage, message.Reject}, message.Ignore},
	} {
		var vs []message.Validator
		var ss []message.Screen
		for _, v := range c.in {
			vs, ss = append(vs, says(v)), append(ss, screens(v))
		}
		assert.Equal(t, c.want, dosguard.Chain(vs...)(t.Context(), nil))
		assert.Equal(t, c.want, dosguard.ScreenChain(ss...)(nil))
		assert.Equal(t, c.want, dosguard.FromScreen(dosguard.ScreenChain(ss...))(t.Context(), nil))
	}
	assert.Equal(t, message.Ignore, dosguard.FromScreen(screens(garbage))(t.Context(), nil))

	// A guard that is missing lets nothing pass.
	assert.Equal(t, message.Ignore, dosguard.Chain(says(message.Accept), nil)(t.Context(), nil))
	assert.Equal(t, message.Ignore, dosguard.ScreenChain(nil)(nil))
	assert.Equal(t, message.Ignore, dosguard.FromScreen(nil)(t.Context(), nil))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, message.Ignore, dosguard.Chain(says(message.Accept))(ended, nil))
}

func TestMaxSize(t *testing.T) {
	m := newMessage(t, nil, start, "hello")
	counters := new(dosguard.Counters)
	assert.Equal(t, message.Accept, dosguard.MaxSize(m.Size(), counters)(received(m)))
	assert.Equal(t, message.Ignore, dosguard.MaxSize(m.Size()-1, counters)(received(m)))
	assert.Equal(t, message.Ignore, dosguard.MaxSize(m.Size()-1, nil)(received(m)))
	assert.Equal(t, message.Ignore, dosguard.MaxSize(m.Size(), counters)(nil))
	assert.EqualValues(t, 1, counters.Of(dosguard.ReasonTooLarge))
	assert.EqualValues(t, 1, counters.Of(dosguard.ReasonNoMessage))
}
