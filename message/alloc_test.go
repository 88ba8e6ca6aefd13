//go:build !race

package message_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/status-im/shoal/message"
)

// The race detector allocates on its own account, hence the build tag.
func TestAllocations(t *testing.T) {
	m := signed(2048)
	in, buf := m.Encode(), make([]byte, 0, m.Size())
	long := bytes.Repeat([]byte("/long"), 100)

	assert.EqualValues(t, 1, testing.AllocsPerRun(100, func() { _, _ = message.Decode(in) }))
	assert.EqualValues(t, 0, testing.AllocsPerRun(100, func() { m.Hash(topic) }))
	assert.EqualValues(t, 1, testing.AllocsPerRun(100, func() { m.Encode() }))
	assert.EqualValues(t, 0, testing.AllocsPerRun(100, func() { buf = m.AppendTo(buf[:0]) }))
	assert.EqualValues(t, 0, testing.AllocsPerRun(100, func() { _, _ = m.Validate(), m.Strict() }))

	m.ContentTopic = string(long)
	in = m.Encode()
	assert.EqualValues(t, 2, testing.AllocsPerRun(100, func() { _, _ = message.Decode(in) }), "a long topic has its own")
	assert.EqualValues(t, 0, testing.AllocsPerRun(100, func() { m.Hash(topic) }))
}
