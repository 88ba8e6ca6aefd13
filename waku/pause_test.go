package waku_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store/storetest"
	"github.com/status-im/shoal/waku"
)

// followed reads a membership's history and on, until ctx ends.
func followed(ctx context.Context, m *waku.Membership) <-chan []message.Hash {
	out := make(chan []message.Hash, 1)
	go func() {
		var got []message.Hash
		for env, err := range m.History(ctx, waku.HistoryQuery{ContentTopics: []string{lobby}, Follow: true}) {
			if err == nil {
				got = append(got, env.Hash)
			}
		}
		out <- got
	}()
	return out
}

// A paused member, light or relay, neither sends nor gets a byte, for ten minutes
// in which others talk; and then it has everything, once.
func TestPause(t *testing.T) {
	for _, mode := range []waku.Mode{waku.ModeLight, waku.ModeRelay} {
		t.Run(mode.String(), func(t *testing.T) {
			p2ptest.Bubble(t, func(t *testing.T) {
				archive := storetest.NewModel(storetest.Config{})
				w := newLightTown(t, 2, waku.WithArchive(archive))
				r := subscribe(t, w.light, lobby)
				w.served(t, waku.Sufficient)
				hearing, deafen := context.WithCancel(t.Context())
				var heard <-chan []message.Hash
				if mode == waku.ModeRelay {
					require.NoError(t, r.Close())
					require.NoError(t, w.light.Switch(within(t), mode))
					heard = followed(hearing, w.light)
				} else {
					heard = hear(hearing, r)
				}
				events := w.member.Events(t.Context())
				talking, hush := context.WithCancel(t.Context())
				said := w.talk(t, talking, 2*time.Second)
				time.Sleep(15 * time.Second) // virtual

				w.member.Pause()
				_, err := w.light.Send(within(t), lobby, []byte("now"))
				require.ErrorIs(t, err, waku.ErrPaused)
				time.Sleep(time.Second) // virtual
				h := w.member.Health()
				require.True(t, h.Paused)
				require.Equal(t, "paused", h.Summary)
				require.Empty(t, w.host.Network().Conns())
				before := w.net.Traffic(w.host)
				time.Sleep(10 * time.Minute) // virtual
				require.Equal(t, before, w.net.Traffic(w.host))

				w.member.Resume()
				_, err = w.light.Send(within(t), "/chat/1/elsewhere/proto", []byte("after"))
				require.NoError(t, err)
				var kinds []waku.EventKind
				for e := range events {
					if e.Kind == waku.NodePaused || e.Kind == waku.NodeResumed {
						kinds = append(kinds, e.Kind)
					}
					if e.Kind == waku.NodeResumed {
						break
					}
				}
				require.Equal(t, []waku.EventKind{waku.NodePaused, waku.NodeResumed}, kinds)
				time.Sleep(90 * time.Second) // virtual
				require.Len(t, w.member.Peers(), 2, "dialled again")
				h = w.member.Health()
				require.False(t, h.Paused)
				hush()
				sent := <-said
				time.Sleep(30 * time.Second) // virtual
				deafen()
				same(t, sent, <-heard)
			})
		})
	}
}
