package main

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/waku"
)

// member is one participant's program.
type member struct {
	name    string
	light   bool
	node    *waku.Node
	in      *waku.Membership
	metrics *prometheus.Registry
	sent    int
	done    chan struct{} // closed when the reader has ended
	charter *waku.Latest
	follows chan struct{} // closed when nobody follows the charter any more

	mu    sync.Mutex
	knows *waku.Version        // of the charter
	got   map[message.Hash]int // others' messages, and how often each
	lost  uint64
	news  chan struct{} // closed and replaced at every message
}

// newMember starts a node, joins the community and begins to read. Relay or light:
// the option is all the difference.
func newMember(ctx context.Context, name string, light bool, key *dosguard.PrivateKey, addrs []string, opts ...waku.JoinOption) (*member, error) {
	m := &member{
		name:    name,
		light:   light,
		metrics: prometheus.NewRegistry(),
		done:    make(chan struct{}),
		follows: make(chan struct{}),
		got:     map[message.Hash]int{},
		news:    make(chan struct{}),
	}
	var err error
	m.node, err = waku.New(ctx, waku.WithStaticPeers(addrs...), waku.WithMetrics(m.metrics))
	if err != nil {
		return nil, err
	}
	as := waku.AsRelay()
	if light {
		as = waku.AsLight()
	}
	m.in, err = m.node.Join(ctx, waku.Community{
		Shard: shard, Control: &control, PublicKey: key.PublicKey(), Routing: routing(),
	}, append(opts, waku.SignWith(key), as)...)
	if err != nil {
		return nil, errors.Join(err, m.node.Close())
	}
	m.charter, err = m.in.Control().Latest(waku.LatestConfig{ContentTopic: charter, Watch: []string{notes}})
	if err != nil {
		return nil, errors.Join(err, m.node.Close())
	}
	go m.read(m.in.Messages(context.Background(), lobby)) // ends with the node
	go m.follow()
	return m, nil
}

// follow keeps the newest charter. It ends with the node.
func (m *member) follow() {
	defer close(m.follows)
	for {
		v, err := m.charter.Next(context.Background())
		if err != nil {
			return
		}
		m.mu.Lock()
		m.knows = v
		m.mu.Unlock()
	}
}

// knowsCharter tells whether the member has this one.
func (m *member) knowsCharter(text []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.knows != nil && bytes.Equal(m.knows.Payload, text)
}

func (m *member) read(messages func(func(*waku.Envelope, error) bool)) {
	defer close(m.done)
	for env, err := range messages {
		var loss *waku.LossError
		m.mu.Lock()
		switch {
		case errors.As(err, &loss):
			m.lost += loss.Count
		case err == nil && env.From != m.node.PeerID():
			m.got[env.Hash]++
		}
		close(m.news)
		m.news = make(chan struct{})
		m.mu.Unlock()
	}
}

func (m *member) leave() error {
	err := m.node.Close()
	<-m.done
	<-m.follows
	return err
}

// missing is how many of due haven't come yet.
func (m *member) missing(due map[message.Hash]bool) (n int, news <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for hash := range due {
		if m.got[hash] == 0 {
			n++
		}
	}
	return n, m.news
}

// await waits until all of due has come, or ctx ends.
func (m *member) await(ctx context.Context, due map[message.Hash]bool) {
	for {
		n, news := m.missing(due)
		if n == 0 {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
}

// heard are the messages that the member got from others.
func (m *member) heard() map[message.Hash]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	heard := map[message.Hash]bool{}
	for hash := range m.got {
		heard[hash] = true
	}
	return heard
}

// tally is what a member got.
type tally struct {
	due, got, twice, foreign int
	lost                     uint64
}

// tally counts. What a latecomer got from before its time, because peers still
// offered it, is neither due nor foreign.
func (m *member) tally(due, real map[message.Hash]bool) tally {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := tally{due: len(due), lost: m.lost}
	for hash, times := range m.got {
		switch {
		case due[hash]:
			t.got++
		case !real[hash]:
			t.foreign++
		}
		if times > 1 {
			t.twice++
		}
	}
	return t
}
