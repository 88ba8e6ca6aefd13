package filter_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/sharding"
)

// quiet is a host on which nothing ever happens, for a server without streams.
type quiet struct{ host.Host }

func (quiet) SetStreamHandler(id protocol.ID, h network.StreamHandler) {}
func (quiet) RemoveStreamHandler(id protocol.ID)                       {}
func (quiet) Network() network.Network                                 { return nowhere{} }

// nowhere is a network without connections.
type nowhere struct{ network.Network }

func (nowhere) NewStream(context.Context, peer.ID) (network.Stream, error) {
	return nil, network.ErrNoConn
}

func (nowhere) Connectedness(peer.ID) network.Connectedness { return network.NotConnected }

// model is what a server should know, said as simply as can be.
type model struct {
	cfg  filter.ServerConfig
	now  time.Time
	held map[string]map[string]bool // by peer: pubsub topic and content topic
	seen map[string]time.Time
}

func (m *model) subscribers() int { return len(m.held) }

func (m *model) criteria() (n int) {
	for _, h := range m.held {
		n += len(h)
	}
	return n
}

func (m *model) forget(p string) {
	delete(m.held, p)
	delete(m.seen, p)
}

// wants are those who want a message.
func (m *model) wants(pubsub, content string) (n int) {
	for _, h := range m.held {
		if h[pubsub+"|"+content] {
			n++
		}
	}
	return n
}

func (m *model) do(p string, r filter.Request) filter.StatusCode {
	if r.Kind == 1 || r.Kind == 2 {
		_, err := sharding.ParsePubsubTopic(r.PubsubTopic)
		if err != nil || len(r.ContentTopics) == 0 || len(r.ContentTopics) > m.cfg.MaxTopics || slices.Contains(r.ContentTopics, "") {
			return 400
		}
	}
	if r.Kind > 3 {
		return 400
	}
	if at, ok := m.seen[p]; ok && m.now.Sub(at) >= m.cfg.Lifetime {
		m.forget(p)
	}
	h := m.held[p]
	switch r.Kind {
	case 0:
		if h == nil {
			return 404
		}
	case 1:
		after := maps.Clone(h)
		if after == nil {
			if after = map[string]bool{}; len(m.held) >= m.cfg.MaxSubscribers {
				return 503
			}
		}
		for _, c := range r.ContentTopics {
			after[r.PubsubTopic+"|"+c] = true
		}
		if len(after) > m.cfg.MaxCriteria {
			return 503
		}
		m.held[p] = after
	case 2:
		here := false
		for k := range h {
			here = here || strings.HasPrefix(k, r.PubsubTopic+"|")
		}
		if !here {
			return 404
		}
		for _, c := range r.ContentTopics {
			delete(h, r.PubsubTopic+"|"+c)
		}
		if len(h) == 0 {
			m.forget(p)
			return 200
		}
	case 3:
		if h == nil {
			return 404
		}
		m.forget(p)
		return 200
	}
	m.seen[p] = m.now
	return 200
}

// runModel lets a server and the model do what the bytes say, two for each step, and
// compares them after each.
func runModel(t *testing.T, steps []byte) {
	start := time.Unix(1_700_000_000, 0)
	m := &model{
		now: start, held: map[string]map[string]bool{}, seen: map[string]time.Time{},
		cfg: filter.ServerConfig{MaxSubscribers: 4, MaxCriteria: 6, MaxTopics: 4, Lifetime: time.Minute, Rate: -1},
	}
	cfg := m.cfg
	cfg.Now = func() time.Time { return m.now }
	s := filter.NewServer(quiet{}, cfg)
	defer s.Close()
	shards := []string{"/waku/2/rs/16/32", "/waku/2/rs/16/64", "", "/waku/2/rs/16/1024"}
	for i := 0; i+1 < len(steps); i += 2 {
		a, b := int(steps[i]), int(steps[i+1])
		if a >= 250 {
			m.now = m.now.Add(time.Duration(b) * time.Second / 2)
			continue
		}
		p := fmt.Sprint(a % 6)
		r := filter.Request{ID: "x", Kind: uint64(a / 6 % 5), PubsubTopic: shards[max(0, b%32-28)]}
		if b%32 < 29 {
			r.PubsubTopic = shards[b%2]
		}
		for j := range b / 32 {
			r.ContentTopics = append(r.ContentTopics, fmt.Sprint((a+b+j*j)%9))
		}
		want := m.do(p, r)
		got := parse(t, s.Handle(peer.ID(p), r.Append()))
		require.Equal(t, want, got.code, "step %d: %s asks %+v: %s", i/2, p, r, got.desc)
		require.True(t, s.Consistent(), "step %d", i/2)

		// Who has expired is there until somebody looks, in both.
		for j := range 9 {
			content := fmt.Sprint(j)
			require.Equal(t, m.wants(shards[0], content), s.Push(shards[0], text(content, "x")))
		}
		st := s.Stats()
		require.Equal(t, m.subscribers(), st.Subscribers)
		require.Equal(t, m.criteria(), st.Criteria)
	}
}

func FuzzModel(f *testing.F) {
	f.Add([]byte{6, 64, 0, 0, 12, 64, 0, 0, 18, 0, 255, 130, 6, 99})
	for seed := range uint64(20) {
		f.Add(randomSteps(seed, 200))
	}
	f.Fuzz(runModel)
}

func randomSteps(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 2*n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Random sequences of everything that a subscriber may ask.
func TestModel(t *testing.T) {
	for seed := range uint64(40) {
		runModel(t, randomSteps(seed, 300))
	}
}
