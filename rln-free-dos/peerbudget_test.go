package dosguard_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
)

func from(id string, m *message.Message) *message.Received {
	return &message.Received{PubsubTopic: topic, Message: m, From: id}
}

// spend counts how many of n messages pass.
func spend(b *dosguard.PeerBudget, id string, m *message.Message, n int) (passed int) {
	for range n {
		if b.Screen(from(id, m)) == message.Accept {
			passed++
		}
	}
	return passed
}

func TestPeerBudgetMessages(t *testing.T) {
	c := newClock()
	b := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{Messages: 10, MessageBurst: 5, Now: c.now})
	m := newMessage(t, nil, start, "hello")
	assert.Equal(t, 5, spend(b, "a", m, 100))
	assert.Equal(t, 5, spend(b, "b", m, 100), "each peer has its own")
	assert.EqualValues(t, 190, b.Counters().Of(dosguard.ReasonTooManyMessages))
	c.add(200 * time.Millisecond)
	assert.Equal(t, 2, spend(b, "a", m, 100))
	c.add(time.Hour)
	assert.Equal(t, 5, spend(b, "a", m, 100))
	c.add(-time.Hour)
	assert.Equal(t, 0, spend(b, "a", m, 100), "a clock set back gives nothing away")
	c.add(time.Second)
	assert.Equal(t, 5, spend(b, "a", m, 100), "and takes nothing for ever")
	assert.Equal(t, 1000, spend(b, "", m, 1000), "our own have no forwarder")
	assert.Equal(t, message.Ignore, b.Screen(nil))
	assert.Equal(t, message.Ignore, b.Screen(from("a", nil)))
}

func TestPeerBudgetBytes(t *testing.T) {
	c := newClock()
	b := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{Bytes: 10_000, ByteBurst: 5000, Now: c.now})
	m := newMessage(t, nil, start, strings.Repeat("x", 1000-39))
	require.Equal(t, 1000, m.Size())
	assert.Equal(t, 5, spend(b, "a", m, 10))
	assert.EqualValues(t, 5, b.Counters().Of(dosguard.ReasonTooManyBytes))
	// What is larger than the burst passes when the bucket is full, and is paid
	// off afterwards.
	c.add(time.Hour)
	large := newMessage(t, nil, start, strings.Repeat("x", 20_000))
	assert.Equal(t, 1, spend(b, "a", large, 10))
	c.add(time.Second)
	assert.Equal(t, 0, spend(b, "a", m, 10))
	c.add(time.Second)
	assert.Equal(t, 5, spend(b, "a", m, 10))
}

// A peer who has used up its budget doesn't get a new one by filling the table
// with other names, and what the other names get is bounded too.
func TestPeerBudgetCannotBeReset(t *testing.T) {
	c := newClock()
	b := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{Messages: 1, MessageBurst: 10, Peers: 100, Now: c.now})
	m := newMessage(t, nil, start, "hello")
	require.Equal(t, 10, spend(b, "flooder", m, 1000))
	names := 0
	for i := range 10_000 {
		names += spend(b, fmt.Sprint("name ", i), m, 10)
		if i%100 == 0 {
			require.LessOrEqual(t, spend(b, "flooder", m, 10), 0)
		}
	}
	// 99 more peers fit in, all others share the budget of sixteen.
	assert.Equal(t, 99*10+16*10, names)
	assert.Equal(t, 100, b.Known())

	// Time passes: those who were busy are strangers again, and places free.
	c.add(10 * time.Second)
	assert.Equal(t, 10, spend(b, "newcomer", m, 100))
	assert.Equal(t, 10, spend(b, "flooder", m, 100))
	assert.Equal(t, 100, b.Known())
}

// An honest peer that is seen now and then is told apart as long as the table
// has room for those who are busy.
func TestPeerBudgetForgetsTheIdle(t *testing.T) {
	c := newClock()
	b := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{Messages: 10, MessageBurst: 10, Peers: 50, Now: c.now})
	m := newMessage(t, nil, start, "hello")
	for i := range 1000 {
		c.add(100 * time.Millisecond)
		require.Equal(t, 1, spend(b, fmt.Sprint("passing by ", i), m, 1))
		require.Equal(t, 1, spend(b, "honest", m, 1))
	}
	assert.Equal(t, 50, b.Known())
}

// A million names cost neither memory nor time: 64 MiB would be 67 bytes each.
func TestPeerBudgetMillionNames(t *testing.T) {
	names := 1_000_000 / slowdown
	b := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{})
	m := newMessage(t, nil, start, "hello")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range names {
		b.Screen(from(fmt.Sprintf("%038d", i), m))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.LessOrEqual(t, b.Known(), dosguard.DefaultBudgetPeers)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(4<<20))
	runtime.KeepAlive(b)
}

func TestPeerBudgetConcurrently(t *testing.T) {
	c := newClock()
	b := dosguard.NewPeerBudget(dosguard.PeerBudgetConfig{Messages: 1, MessageBurst: 100, Peers: 10, Now: c.now})
	m := newMessage(t, nil, start, "hello")
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				passed.Add(int64(spend(b, fmt.Sprint(i%5), m, 1)))
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 500, passed.Load())
}
