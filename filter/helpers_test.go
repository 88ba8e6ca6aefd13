package filter_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

var (
	shard  = sharding.Shard{Cluster: 16, Index: 32}
	other  = sharding.Shard{Cluster: 16, Index: 64}
	pubsub = shard.PubsubTopic()
)

const topicA, topicB = "/waku/1/0x9c22ff5f/rfc26", "/waku/1/0xbbbbbbbb/rfc26"

// text is the message of that payload, 43 bytes for "hello".
func text(topic, payload string) *message.Message {
	return &message.Message{Payload: []byte(payload), ContentTopic: topic, Timestamp: 1700000000123456789}
}

// number is the i-th message, of so many bytes.
func number(topic string, i, size int) *message.Message {
	payload := fmt.Sprintf("%08d", i)
	if size > len(payload) {
		payload += strings.Repeat("x", size-len(payload))
	}
	return text(topic, payload)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

// bubble runs f in a bubble with n hosts, which aren't connected yet.
func bubble(t *testing.T, n int, f func(t *testing.T, hosts []host.Host)) {
	p2ptest.Bubble(t, func(t *testing.T) {
		f(t, p2ptest.Hosts(t, n))
	})
}

// serve answers on h until the test ends.
func serve(t testing.TB, h host.Host, cfg filter.ServerConfig) *filter.Server {
	s := filter.NewServer(h, cfg)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// box is what a client has been brought and told.
type box struct {
	mu       sync.Mutex
	pushes   []filter.Push
	failures []error
}

func (b *box) push(p filter.Push) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pushes = append(b.pushes, p)
}

func (b *box) failure(_ peer.ID, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = append(b.failures, err)
}

// payloads returns what came, and forgets it.
func (b *box) payloads() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pushes {
		all = append(all, string(p.Message.Payload))
	}
	b.pushes = nil
	return all
}

func (b *box) all() []filter.Push {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.pushes)
}

func (b *box) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pushes)
}

// told returns what OnFailure was told, and forgets it.
func (b *box) told() []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.failures
	b.failures = nil
	return all
}

// client takes pushes on h until the test ends, without pacing its requests.
func client(t testing.TB, h host.Host) (*filter.Client, *box) {
	b := new(box)
	return clientWith(t, h, filter.ClientConfig{Rate: -1, OnPush: b.push, OnFailure: b.failure}), b
}

func clientWith(t testing.TB, h host.Host, cfg filter.ClientConfig) *filter.Client {
	c := filter.NewClient(h, cfg)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// answerBy lets h answer requests with bytes of its own making.
func answerBy(h host.Host, f func(request []byte) []byte) {
	h.SetStreamHandler(filter.SubscribeID, func(s network.Stream) {
		b, err := wire.ReadFrame(s, 1<<20)
		if err != nil {
			s.Reset()
			return
		}
		wire.WriteFrame(s, f(b))
		s.Close()
	})
}

// ask sends a request as it stands and returns the response as it stands.
func ask(t testing.TB, from, to host.Host, request []byte) []byte {
	s, err := p2ptest.OpenStream(t.Context(), from, to.ID(), filter.SubscribeID)
	require.NoError(t, err)
	defer s.Reset()
	require.NoError(t, wire.WriteFrame(s, request))
	require.NoError(t, s.CloseWrite())
	b, err := wire.ReadFrame(s, 1<<20)
	require.NoError(t, err)
	_, err = s.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err, "the server ends its side")
	return b
}

// parsed is an answer taken apart. All fields must be there.
type parsed struct {
	id   string
	code filter.StatusCode
	desc string
}

func parse(t testing.TB, b []byte) parsed {
	id, code, desc, err := filter.ResponseOf(b)
	require.NoError(t, err)
	require.NotEmpty(t, id)
	require.NotEmpty(t, desc)
	require.Equal(t, b, filter.AppendResponse(id, code, desc))
	return parsed{id, code, desc}
}

// want subscribes h at server by hand.
func want(t testing.TB, h, server host.Host, topics ...string) {
	r := filter.Request{ID: "1", Kind: 1, PubsubTopic: pubsub, ContentTopics: topics}
	require.Equal(t, parsed{"1", 200, "OK"}, parse(t, ask(t, h, server, r.Append())))
}

// pushes returns the payloads on a stream until it ends.
func pushes(s io.Reader) (all []string) {
	r := bufio.NewReader(s)
	for {
		b, err := wire.ReadFrame(r, 1<<20)
		if err != nil {
			return all
		}
		encoded, _, err := filter.PushOf(b)
		if err != nil {
			return append(all, err.Error())
		}
		m, err := message.Decode(encoded)
		if err != nil {
			return append(all, err.Error())
		}
		all = append(all, string(m.Payload))
	}
}

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("%08d", i))
	}
	return all
}

func since(t time.Time) time.Duration { return time.Since(t) }

// percentile sorts its input.
func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[min(len(all)*p/100, len(all)-1)]
}
