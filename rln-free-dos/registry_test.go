package dosguard_test

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

func TestRegistry(t *testing.T) {
	a, b := communityKey(t).PublicKey(), strangerKey(t).PublicKey()
	var r dosguard.Registry
	assert.Empty(t, r.Valid(start))

	require.NoError(t, r.Add(a, time.Time{}, start.Add(time.Hour)))
	require.NoError(t, r.Add(b, start, time.Time{}))
	assert.Equal(t, []*dosguard.PublicKey{a}, r.Valid(start.Add(-1)))
	assert.ElementsMatch(t, []*dosguard.PublicKey{a, b}, r.Valid(start), "from is included")
	assert.Equal(t, []*dosguard.PublicKey{b}, r.Valid(start.Add(time.Hour)), "until is not")
	assert.Equal(t, []*dosguard.PublicKey{b}, r.Valid(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))
	assert.Equal(t, []*dosguard.PublicKey{a}, r.Valid(time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)))
	assert.ElementsMatch(t, []dosguard.KeyPeriod{{Key: a, Until: start.Add(time.Hour)}, {Key: b, From: start}}, r.All())

	// Adding a known key, in another value, gives it new bounds.
	same, err := dosguard.PublicKeyFromBytes(a.Bytes())
	require.NoError(t, err)
	require.NoError(t, r.Add(same, time.Time{}, time.Time{}))
	assert.Len(t, r.All(), 2)
	assert.Len(t, r.Valid(start.Add(2*time.Hour)), 2)

	assert.True(t, r.Expire(same, start.Add(time.Minute)))
	assert.Len(t, r.Valid(start.Add(time.Minute)), 1)
	assert.True(t, r.Remove(a))
	assert.False(t, r.Remove(a))
	assert.False(t, r.Expire(a, start))
	assert.True(t, r.Expire(b, start.Add(-time.Minute)), "a time that ends before it begins")
	assert.Empty(t, r.All())
}

func TestRegistryErrors(t *testing.T) {
	key := communityKey(t).PublicKey()
	var r dosguard.Registry
	assert.ErrorIs(t, r.Add(nil, time.Time{}, time.Time{}), dosguard.ErrNoKey)
	assert.ErrorIs(t, r.Add(key, start, start), dosguard.ErrKeyPeriod)
	assert.ErrorIs(t, r.Add(key, start, start.Add(-1)), dosguard.ErrKeyPeriod)
	assert.False(t, r.Remove(nil))
	for range dosguard.MaxKeys {
		k, err := dosguard.GenerateKey()
		require.NoError(t, err)
		require.NoError(t, r.Add(k.PublicKey(), time.Time{}, time.Time{}))
	}
	assert.ErrorIs(t, r.Add(key, time.Time{}, time.Time{}), dosguard.ErrTooManyKeys)
	assert.Len(t, dosguard.NewRegistry(nil, key, key).All(), 1)
}

// A community changes its key while a thousand messages are under way: members
// switch one after the other during an overlap of four minutes, messages take up
// to a minute, nothing is lost and nothing unsigned slips through. Afterwards the
// old key is refused.
func TestRotation(t *testing.T) {
	t.Parallel()
	oldKey, newKey, stranger := communityKey(t), privateKey(t, orderHex[:32]+secretHex[:32]), strangerKey(t)
	c := newClock()
	s := c.signed(oldKey.PublicKey())
	overlap, end := start.Add(5*time.Minute), start.Add(9*time.Minute)

	accepted := 0
	for i := range 1000 {
		c.t = start.Add(time.Duration(i) * 840 * time.Millisecond) // 14 minutes
		if c.t.After(overlap.Add(-30 * time.Second)) {
			require.NoError(t, s.Keys().Add(newKey.PublicKey(), overlap.Add(-time.Minute), time.Time{}))
			require.True(t, s.Keys().Expire(oldKey.PublicKey(), end))
		}
		sent := c.t.Add(-time.Duration(i%60) * time.Second)
		key := oldKey
		if switched := overlap.Add(time.Duration(i%7) * 30 * time.Second); !sent.Before(switched) {
			key = newKey
		}
		if admit(s, received(newMessage(t, key, sent, fmt.Sprint(i)))) == message.Accept {
			accepted++
		}
		if i%10 == 0 {
			assert.Equal(t, message.Reject, admit(s, received(newMessage(t, nil, sent, "unsigned"))))
			assert.Equal(t, message.Reject, admit(s, received(newMessage(t, stranger, sent, "forged"))))
		}
	}
	assert.Equal(t, 1000, accepted)

	// The old key signs no more, and whoever passes that on isn't blamed.
	require.True(t, c.t.After(end))
	v, reason := admitFor(t, s, received(newMessage(t, oldKey, c.t, "late")))
	assert.Equal(t, message.Ignore, v)
	assert.Equal(t, dosguard.ReasonKeyNotValid, reason)
	v, reason = admitFor(t, s, received(newMessage(t, oldKey, end, "at the end")))
	assert.Equal(t, message.Ignore, v)
	assert.Equal(t, dosguard.ReasonKeyNotValid, reason)

	// Backdating works as long as the window reaches back, and not longer.
	c.t = end.Add(dosguard.DefaultWindow - 1)
	assert.Equal(t, message.Accept, admit(s, received(newMessage(t, oldKey, end.Add(-1), "backdated"))))
	c.t = end.Add(dosguard.DefaultWindow)
	v, reason = admitFor(t, s, received(newMessage(t, oldKey, end.Add(-1), "too late")))
	assert.Equal(t, message.Ignore, v)
	assert.Equal(t, dosguard.ReasonOutsideWindow, reason)
	// Stored messages of its time stay verifiable.
	assert.NoError(t, s.Verify(topic, newMessage(t, oldKey, start, "stored"), false))

	// A key that has leaked is removed, and no better than a stranger's.
	c.t = end
	require.True(t, s.Keys().Remove(oldKey.PublicKey()))
	v, reason = admitFor(t, s, received(newMessage(t, oldKey, end.Add(-1), "leaked")))
	assert.Equal(t, message.Reject, v)
	assert.Equal(t, dosguard.ReasonBadSignature, reason)
}

func TestKeyFarFromItsTimeIsNoKey(t *testing.T) {
	key, other := communityKey(t), strangerKey(t)
	c := newClock()
	s := c.signed()
	day := 24 * time.Hour
	require.NoError(t, s.Keys().Add(key.PublicKey(), start.Add(-3*day), start.Add(-day)))
	_, reason := admitFor(t, s, received(newMessage(t, key, start, "x")))
	assert.Equal(t, dosguard.ReasonNoKey, reason)
	require.NoError(t, s.Keys().Add(other.PublicKey(), time.Time{}, time.Time{}))
	_, reason = admitFor(t, s, received(newMessage(t, key, start, "x")))
	assert.Equal(t, dosguard.ReasonBadSignature, reason)
	require.NoError(t, s.Keys().Add(key.PublicKey(), start.Add(day-1), time.Time{}))
	_, reason = admitFor(t, s, received(newMessage(t, key, start, "x")))
	assert.Equal(t, dosguard.ReasonKeyNotValid, reason)
}

// Keys come and go while messages are judged: a message of the key that stays is
// never lost, and nothing unsigned passes at any moment.
func TestRegistryChangesUnderLoad(t *testing.T) {
	stays, comes, stranger := communityKey(t), privateKey(t, secretHex[32:]+secretHex[:32]), strangerKey(t)
	c := newClock()
	s := c.signed(stays.PublicKey())
	done := make(chan struct{})
	var wg, changers sync.WaitGroup
	for range 2 {
		changers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				_ = s.Keys().Add(comes.PublicKey(), time.Time{}, time.Time{})
				s.Keys().Expire(comes.PublicKey(), start)
				s.Keys().Remove(comes.PublicKey())
				s.Keys().Valid(start)
			}
		})
	}
	for i := range 4 {
		good := make([]*message.Message, 20)
		for j := range good {
			good[j] = newMessage(t, stays, start, fmt.Sprint(i, j))
		}
		forged := newMessage(t, stranger, start, "forged")
		unsigned := newMessage(t, nil, start, "unsigned")
		wg.Go(func() {
			for _, m := range good {
				assert.Equal(t, message.Accept, admit(s, received(m)))
				assert.Equal(t, message.Reject, admit(s, received(forged)))
				assert.Equal(t, message.Reject, admit(s, received(unsigned)))
			}
		})
	}
	wg.Wait()
	close(done)
	changers.Wait()
}

func TestRegistryTimesBeyondNanoseconds(t *testing.T) {
	key := communityKey(t)
	c := newClock()
	s := c.signed()
	require.NoError(t, s.Keys().Add(key.PublicKey(), time.Unix(math.MinInt64/2, 0), time.Unix(math.MaxInt64/2, 0)))
	assert.Equal(t, message.Accept, admit(s, received(newMessage(t, key, start, "x"))))
	c.t = time.Unix(math.MaxInt64/2, 0)
	assert.Equal(t, message.Ignore, admit(s, received(newMessage(t, key, start, "y"))))
}
