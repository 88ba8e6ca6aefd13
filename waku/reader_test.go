package waku_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/waku"
)

// A reader that never reads loses its own messages, and nobody else's.
func TestReaderThatNeverReads(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		n, theirs, ours := pair(t)
		m := join(t, n, waku.Community{Shard: village}, waku.WithBuffer(16))
		lazy := subscribe(t, m)
		iterated := m.Messages(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := n.Events(ctx)
		for range 5 {
			sendMany(t, theirs[village], 20)
			sendMany(t, theirs[town], 1)
			next(t, ours[town])
			for range 20 {
				next(t, ours[village])
			}
		}
		require.EqualValues(t, 84, lazy.Lost())
		require.EqualValues(t, 2*84, n.Health().Shards[0].Lost)
		for e := range events {
			if e.Kind == waku.MessagesLost {
				require.Equal(t, village, e.Shard)
				break
			}
		}
		// The loss is reported once, then comes what is left.
		_, err := lazy.Next(t.Context())
		var loss *waku.LossError
		require.ErrorAs(t, err, &loss)
		require.Equal(t, waku.LossError{Shard: village, Count: 84}, *loss)
		for range 16 {
			next(t, lazy)
		}
		seen := 0
		for env, err := range iterated {
			if err != nil {
				require.ErrorAs(t, err, &loss)
				require.EqualValues(t, 84, loss.Count)
				continue
			}
			require.NotNil(t, env)
			if seen++; seen == 16 {
				break
			}
		}
		require.EqualValues(t, 84, lazy.Lost())

		began := time.Now()
		sendMany(t, theirs[village], 100)
		require.NoError(t, m.Leave())
		require.Less(t, time.Since(began), time.Second)
		_, err = lazy.Next(t.Context())
		require.ErrorIs(t, err, net.ErrClosed)
		subscribe(t, join(t, n, waku.Community{Shard: village}))
		require.NoError(t, n.Close())
		require.Less(t, time.Since(began), time.Second)
	})
}

func TestContentTopicsOfReaders(t *testing.T) {
	n := start(t, oneSocket())
	m := join(t, n, waku.Community{Shard: village})
	all, lobbies, both := subscribe(t, m), subscribe(t, m, lobby), subscribe(t, m, lobby)
	const kitchen = "/chat/1/kitchen/proto"
	both.AddTopics(kitchen)
	say := func(topic, text string) {
		_, err := m.Send(within(t), topic, []byte(text))
		require.NoError(t, err)
	}
	hear := func(r *waku.Reader, texts ...string) {
		t.Helper()
		for _, text := range texts {
			require.Equal(t, text, string(next(t, r).Message.Payload))
		}
	}
	say(lobby, "1")
	say(kitchen, "2")
	both.RemoveTopics(lobby)
	say(lobby, "3")
	say(kitchen, "4")
	both.RemoveTopics(kitchen)
	say(kitchen, "5")
	both.AddTopics(lobby)
	say(lobby, "6")
	require.NoError(t, both.Close())
	say(lobby, "7")
	hear(all, "1", "2", "3", "4", "5", "6", "7")
	hear(lobbies, "1", "3", "6", "7")
	_, err := both.Next(within(t))
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, both.Close())
}

func TestMessagesEnd(t *testing.T) {
	n := start(t, oneSocket())
	m := join(t, n, waku.Community{Shard: village})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	messages := m.Messages(ctx)
	_, err := m.Send(t.Context(), lobby, []byte("x"))
	require.NoError(t, err)
	for env, err := range messages { // what came before the loop is there
		require.NoError(t, err)
		require.Equal(t, n.PeerID(), env.From)
		cancel() // and then the loop ends without an error
	}
	for _, err := range messages {
		require.ErrorIs(t, err, net.ErrClosed)
	}
	left := false
	messages = m.Messages(t.Context())
	require.NoError(t, m.Leave())
	for _, err := range messages {
		require.ErrorIs(t, err, net.ErrClosed)
		left = true
	}
	require.True(t, left)
	require.NoError(t, m.Leave())
}
