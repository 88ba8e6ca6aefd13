package waku_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/message/segment"
	"github.com/status-im/shoal/waku"
)

func description(version uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(version)}).Read(b)
	return b
}

func latest(t testing.TB, m *waku.Membership, cfg waku.LatestConfig) *waku.Latest {
	cfg.ContentTopic = charter
	l, err := m.Latest(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func nextVersion(t testing.TB, l *waku.Latest) *waku.Version {
	t.Helper()
	v, err := l.Next(short(t, time.Hour))
	require.NoError(t, err, "%+v %s", l.Stats(), l.Failure())
	return v
}

// publish sends a version and waits until it is stored.
func publish(t testing.TB, w *bigTown, m *waku.Membership, payload []byte, opts ...waku.SendOption) *waku.LargeDelivery {
	t.Helper()
	d, err := m.SendLarge(within(t), charter, payload, append([]waku.SendOption{waku.OfClass(waku.ClassControl)}, opts...)...)
	require.NoError(t, err)
	require.NoError(t, d.Wait(within(t), waku.Stored))
	return d
}

// A version is downloaded once, wherever it begins to be here: nothing that is here is
// fetched again, and nothing of versions that were replaced.
func TestLatest(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newBigTown(t)
		owner, inOwner := w.member(t, w.c)
		_, inGil := w.member(t, w.c, waku.AsLight())
		sam, inSam := w.member(t, w.c, waku.RelayControl())
		meshed(t, 1, append(w.fleet, owner, sam)...)
		live := latest(t, inSam.Control(), waku.LatestConfig{})
		for range 1 {
			ctx := within(t)
			go func() { _, _ = live.Next(ctx) }()
		}

		const size = 3 << 20
		publish(t, w, inOwner, description(1, size))
		second := publish(t, w, inOwner, description(2, size))
		require.Len(t, second.Parts, 4)
		require.Zero(t, second.Parity)

		gil := latest(t, inGil.Control(), waku.LatestConfig{})
		v := nextVersion(t, gil)
		assert.True(t, bytes.Equal(description(2, size), v.Payload))
		assert.Equal(t, second.Whole, v.Whole)
		assert.Equal(t, 4, v.Messages)
		st := gil.Stats()
		assert.Equal(t, uint64(4), st.Fetched, "nothing of the first version")
		assert.Less(t, st.FetchedBytes, uint64(size+4*1000))

		// News comes with the next look; while there is none a look names one hash.
		third := publish(t, w, inOwner, description(3, size), waku.SegmentSize(segment.Size(150<<10)))
		v = nextVersion(t, gil)
		assert.True(t, bytes.Equal(description(3, size), v.Payload))
		require.Len(t, third.Parts, 31)
		assert.Equal(t, 28, v.Messages, "one block of parity, which told where the data is, and 27 of 28 slices")
		assert.Equal(t, 4+28, int(gil.Stats().Fetched))

		hashes := gil.Stats().Hashes
		_, err := gil.Next(short(t, time.Hour))
		require.Error(t, err)
		after := gil.Stats()
		assert.Equal(t, 32, int(after.Fetched), "nothing new, nothing fetched")
		assert.LessOrEqual(t, int(after.Hashes-hashes), 12, "a look each five minutes, of a hash")

		assert.Zero(t, delivered(owner, town))
		assert.Equal(t, uint64(0), live.Stats().Fetched, "it came by the mesh")
	})
}

func short(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Who slept through half of a version takes the other half, and the same version again
// isn't taken again.
func TestLatestFinishes(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newBigTown(t)
		owner, inOwner := w.member(t, w.c)
		sam, inSam := w.member(t, w.c, waku.RelayControl())
		meshed(t, 1, append(w.fleet, owner, sam)...)
		l := latest(t, inSam.Control(), waku.LatestConfig{})
		payload := description(1, 21*100_000-5)
		segments, err := segment.Split(payload, 100_000)
		require.NoError(t, err)
		require.Len(t, segments, 23)
		send := func(list []*segment.Segment) {
			for _, s := range list {
				_, err := inOwner.Send(within(t), charter, s.Encode(), waku.OfClass(waku.ClassControl))
				require.NoError(t, err)
			}
			time.Sleep(3 * time.Second)
		}
		send(segments[:10])
		_, err = l.Next(short(t, time.Second))
		require.Error(t, err)
		st := l.Stats()
		require.Equal(t, 10, int(st.Pushed+st.Fetched))
		require.Equal(t, 1, st.Segments.Held)

		sam.Pause()
		send(segments[10:])
		sam.Resume()
		v := nextVersion(t, l)
		assert.True(t, bytes.Equal(payload, v.Payload))
		st = l.Stats()
		assert.LessOrEqual(t, int(st.Pushed+st.Fetched), 22, "each once: 21 of them, and the last block of parity")
		send(segments[20:])
		_, err = l.Next(short(t, 20*time.Minute))
		require.Error(t, err)
	})
}

// What is watched brings the news at once.
func TestLatestWatches(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newBigTown(t)
		owner, inOwner := w.member(t, w.c)
		gil, inGil := w.member(t, w.c, waku.AsLight())
		meshed(t, 1, append(w.fleet, owner)...)
		l := latest(t, inGil.Control(), waku.LatestConfig{
			Watch: []string{lobby},
			Open: func(env *waku.Envelope) (string, []byte, error) {
				if len(env.Message.Payload) < 2 {
					return "", nil, errors.New("not sealed")
				}
				return "the owner", env.Message.Payload[1:], nil
			},
			Check: func(p []byte) error {
				if len(p) < 100 {
					return errors.New("too short")
				}
				return nil
			},
		})
		p2ptest.Eventually(t, func() bool { return shardHealth(gil, townControl).State == waku.Sufficient }, "no service peers")
		_, err := l.Next(short(t, 10*time.Second))
		require.Error(t, err)
		seal := waku.SealWith(func(b []byte) ([]byte, error) { return append([]byte{7}, b...), nil })
		publish(t, w, inOwner, description(1, 1000), seal)
		publish(t, w, inOwner, []byte("x"))                         // Open refuses it
		publish(t, w, inOwner, bytes.Repeat([]byte("y"), 50), seal) // Check refuses it
		began := time.Now()
		_, err = inOwner.Send(within(t), lobby, []byte("news"), waku.OfClass(waku.ClassControl))
		require.NoError(t, err)
		v := nextVersion(t, l)
		assert.Less(t, time.Since(began), 5*time.Second)
		assert.Equal(t, description(1, 1000), v.Payload)
		assert.Equal(t, "the owner", v.Sender)
		assert.Equal(t, 2, int(l.Stats().Refused))

		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		_, err = l.Next(within(t))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// Junk of somebody who holds the key hides nothing from who knows what to look for, and
// half versions without end take no more room than there is.
func TestLatestAmongJunk(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newBigTown(t)
		owner, inOwner := w.member(t, w.c)
		meshed(t, 1, append(w.fleet, owner)...)
		publish(t, w, inOwner, description(1, 50_000), waku.SegmentSize(10_000))
		for i := range 150 {
			junk := fmt.Appendf(nil, "junk %d", i)
			if i%2 == 0 {
				junk = (&segment.Segment{Whole: segment.Sum(junk), Index: i % 7, Count: 8, Payload: make([]byte, 2000)}).Encode()
			}
			d, err := inOwner.Send(within(t), charter, junk, waku.OfClass(waku.ClassControl))
			require.NoError(t, err)
			require.NoError(t, d.Wait(within(t), waku.Propagated))
		}
		time.Sleep(10 * time.Second)
		_, inGil := w.member(t, w.c, waku.AsLight())
		l := latest(t, inGil.Control(), waku.LatestConfig{
			Segments: segment.Config{MaxWhole: 60_000, MaxSender: 1, MaxBytes: 1}, // as little as may be
			Check: func(p []byte) error {
				if len(p) != 50_000 {
					return errors.New("not a description")
				}
				return nil
			},
		})
		v := nextVersion(t, l)
		assert.True(t, bytes.Equal(description(1, 50_000), v.Payload))
		st := l.Stats()
		assert.Positive(t, st.Segments.Evicted)
		assert.Less(t, st.Segments.Bytes, 110_000)
		assert.Equal(t, 75, int(st.Refused))
		assert.Equal(t, 155, int(st.Fetched), "nothing twice")
	})
}

func TestSendLarge(t *testing.T) {
	n := start(t, oneSocket())
	m := join(t, n, waku.Community{Shard: town})
	d, err := m.SendLarge(within(t), charter, []byte("small"))
	require.NoError(t, err)
	assert.Len(t, d.Parts, 1)
	assert.Equal(t, segment.Sum([]byte("small")), d.Whole)

	_, err = m.SendLarge(within(t), charter, make([]byte, 257*10), waku.SegmentSize(10))
	var large *segment.TooLargeError
	require.ErrorAs(t, err, &large)
	assert.Equal(t, 2560, large.Limit)
	_, err = m.Send(within(t), charter, make([]byte, 1<<20))
	var tooLarge *message.TooLargeError
	require.ErrorAs(t, err, &tooLarge)
	assert.Equal(t, 1<<20, tooLarge.Limit)

	calls := 0
	d, err = m.SendLarge(within(t), charter, make([]byte, 100), waku.SegmentSize(10), waku.SealWith(func(b []byte) ([]byte, error) {
		if calls++; calls > 3 {
			return nil, errors.New("no more")
		}
		return b, nil
	}))
	require.ErrorContains(t, err, "part 4 of 11: no more")
	assert.Len(t, d.Parts, 3)
	for _, cfg := range []waku.LatestConfig{{}, {ContentTopic: charter, Every: -1}} {
		_, err := m.Latest(cfg)
		require.Error(t, err, fmt.Sprint(cfg))
	}
}
