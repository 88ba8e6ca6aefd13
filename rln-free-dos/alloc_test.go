//go:build !race

package dosguard_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

// The race detector allocates on its own account, hence the build tag.
func TestAllocations(t *testing.T) {
	key := communityKey(t)
	s := newClock().signed(key.PublicKey())
	allocs := func(f func()) float64 { return testing.AllocsPerRun(100, f) }
	long := strings.Repeat("long", 10_000)

	good := received(newMessage(t, key, start, long))
	require.Equal(t, message.Accept, admit(s, good))
	replay := good
	fresh := received(newMessage(t, key, start, "fresh"))
	unsigned := received(newMessage(t, nil, start, long))
	stale := received(newMessage(t, key, start.Add(-time.Hour), long))
	forged := received(newMessage(t, strangerKey(t), start, long))

	assert.Zero(t, allocs(func() { dosguard.Digest(long, good.Message) }))
	for name, in := range map[string]*message.Received{"replay": replay, "fresh": fresh, "unsigned": unsigned, "stale": stale, "forged": forged} {
		assert.Zero(t, allocs(func() { s.Screen(in) }), "screen: %s", name)
	}
	for name, in := range map[string]*message.Received{"replay": replay, "unsigned": unsigned, "stale": stale, "forged": forged} {
		assert.Zero(t, allocs(func() { s.Validate(context.Background(), in) }), "validate: %s", name)
	}
	digest := dosguard.Digest(topic, good.Message)
	assert.Zero(t, allocs(func() { key.PublicKey().Verify(digest, good.Message.Meta) }))
	assert.Zero(t, allocs(func() { _ = s.Verify(topic, good.Message, true) }))

	b := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{})
	assert.Zero(t, allocs(func() { b.Screen(good) }))
}
