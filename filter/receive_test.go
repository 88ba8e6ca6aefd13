package filter_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/message"
)

// service is a service peer by hand, at which a client is subscribed to content
// topic a.
func service(t *testing.T, cfg filter.ClientConfig, f func(t *testing.T, c *filter.Client, got *box, serve, client host.Host)) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		got := new(box)
		cfg.Rate, cfg.OnFailure = -1, got.failure
		if cfg.OnPush == nil {
			cfg.OnPush = got.push
		}
		c := clientWith(t, hosts[1], cfg)
		answerBy(hosts[0], func([]byte) []byte { return yes("") })
		p2ptest.Star(t, hosts)
		require.NoError(t, c.Subscribe(t.Context(), hosts[0].ID(), shard, []string{"a"}))
		f(t, c, got, hosts[0], hosts[1])
	})
}

func openPush(t *testing.T, from, to host.Host) network.Stream {
	s, err := p2ptest.OpenStream(t.Context(), from, to.ID(), filter.PushID)
	require.NoError(t, err)
	return s
}

// refused tells whether a new stream is reset at once, maybe before it is negotiated.
func refused(t *testing.T, from, to host.Host) bool {
	s, err := p2ptest.OpenStream(t.Context(), from, to.ID(), filter.PushID)
	return err != nil || over(s)
}

// over tells whether the other side has reset s.
func over(s network.Stream) bool {
	synctest.Wait()
	s.SetReadDeadline(time.Now().Add(time.Nanosecond))
	defer s.SetReadDeadline(time.Time{})
	_, err := s.Read(make([]byte, 1))
	return errors.Is(err, network.ErrReset)
}

func frame(payload string) []byte { return filter.Frame(pubsub, text("a", payload)) }

// Pushes come one for a stream or many, in pieces, and after a long rest.
func TestReceive(t *testing.T) {
	service(t, filter.ClientConfig{}, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		for i := range 30 { // go-waku: a stream each, at once
			s := openPush(t, server, client)
			s.Write(frame(fmt.Sprint(i)))
			s.Close()
		}
		synctest.Wait()
		require.Len(t, got.payloads(), 30)

		s := openPush(t, server, client) // nwaku: one for all
		for i := range 100 {
			s.Write(frame(fmt.Sprint(i)))
			if i%10 == 0 {
				time.Sleep(time.Hour)
			}
		}
		synctest.Wait()
		require.Equal(t, 100, got.len())
		require.Equal(t, "99", got.payloads()[99])
		for _, b := range frame("in pieces") {
			s.Write([]byte{b})
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		require.Equal(t, []string{"in pieces"}, got.payloads())
		require.False(t, over(s))
		s.CloseWrite()
		_, err := s.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err, "it ends its side when we end ours")
		require.Empty(t, got.told())
		require.Equal(t, uint64(131), c.Stats().Pushes)
		require.Positive(t, c.Stats().Bytes)
	})
}

// What nobody asked for is ignored, and told.
func TestNotAsked(t *testing.T) {
	service(t, filter.ClientConfig{}, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		s := openPush(t, server, client)
		for range 50 {
			s.Write(filter.Frame(pubsub, text("b", "another topic")))
			s.Write(filter.Frame(other.PubsubTopic(), text("a", "another shard")))
			s.Write(filter.Frame("/waku/2/default-waku/proto", text("a", "no shard")))
		}
		s.Write(frame("asked for"))
		require.False(t, over(s))
		require.Equal(t, []string{"asked for"}, got.payloads())
		require.Equal(t, []error{filter.ErrNotAsked}, got.told(), "once")
		require.Equal(t, uint64(150), c.Stats().NotAsked)

		require.NoError(t, c.Unsubscribe(t.Context(), server.ID(), shard, []string{"a"}))
		s.Write(frame("not any more"))
		require.Empty(t, got.payloads())
		require.True(t, refused(t, server, client), "from who isn't asked for anything")
		require.Equal(t, []error{filter.ErrNotAsked}, got.told())
	})
}

// The first push may come before the answer that grants it.
func TestPushBeforeAnswer(t *testing.T) {
	bubble(t, 2, func(t *testing.T, hosts []host.Host) {
		c, got := client(t, hosts[1])
		answerBy(hosts[0], func([]byte) []byte {
			openPush(t, hosts[0], hosts[1]).Write(frame("early"))
			time.Sleep(time.Second)
			return yes("")
		})
		p2ptest.Star(t, hosts)
		require.NoError(t, c.Subscribe(t.Context(), hosts[0].ID(), shard, []string{"a"}))
		require.Equal(t, []string{"early"}, got.payloads())
	})
}

// Accepts decides when it is set.
func TestAccepts(t *testing.T) {
	var server peer.ID
	accepts := func(p peer.ID, pubsubTopic, contentTopic string) bool {
		return p == server && pubsubTopic == pubsub && contentTopic == "mine"
	}
	bubble(t, 3, func(t *testing.T, hosts []host.Host) {
		server = hosts[0].ID()
		got := new(box)
		clientWith(t, hosts[1], filter.ClientConfig{Accepts: accepts, OnPush: got.push, OnFailure: got.failure})
		p2ptest.Full(t, hosts)
		for _, from := range []host.Host{hosts[0], hosts[2]} {
			s := openPush(t, from, hosts[1])
			s.Write(filter.Frame(pubsub, text("mine", "1")))
			s.Write(filter.Frame(pubsub, text("other", "2")))
			s.Write(filter.Frame("", text("mine", "3")))
			s.Write(filter.Frame(other.PubsubTopic(), text("mine", "4")))
			synctest.Wait()
		}
		require.Equal(t, []string{"1"}, got.payloads())
		require.Equal(t, []error{filter.ErrNotAsked, filter.ErrNotAsked}, got.told())
	})
}

// A push that doesn't name its shard is understood where it can be.
func TestNoPubsubTopic(t *testing.T) {
	service(t, filter.ClientConfig{}, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		b, err := message.Decode(text("a", "x").Encode())
		require.NoError(t, err)
		bare := wire.AppendFrame(nil, append([]byte{0x0a, byte(b.Size())}, b.Encode()...))
		s := openPush(t, server, client)
		s.Write(bare)
		synctest.Wait()
		require.Len(t, got.all(), 1)
		require.Equal(t, pubsub, got.all()[0].PubsubTopic)
		require.Equal(t, b.Hash(pubsub), got.all()[0].Hash)
		require.NoError(t, c.Subscribe(t.Context(), server.ID(), other, []string{"a"}))
		s.Write(bare)
		synctest.Wait()
		require.Len(t, got.payloads(), 1, "which of the two?")
		require.NoError(t, c.Unsubscribe(t.Context(), server.ID(), shard, []string{"a"}))
		s.Write(bare)
		synctest.Wait()
		require.Equal(t, other.PubsubTopic(), got.all()[0].PubsubTopic)
	})
}

// What can't be taken for itself is left out; what can't be read ends the stream.
func TestBadPushes(t *testing.T) {
	var tooLarge *message.TooLargeError
	var frameTooLarge *wire.FrameTooLargeError
	push := func(hex string) []byte { return wire.AppendFrame(nil, unhex(hex)) }
	big := filter.Frame(pubsub, text("a", strings.Repeat("x", 1000)))
	for name, c := range map[string]struct {
		bytes []byte
		over  bool
		is    error
		as    any
	}{
		"an empty payload":             {filter.Frame(pubsub, text("a", "")), false, message.ErrEmptyPayload, nil},
		"no payload":                   {push("0a03120161 1210" + "2f77616b752f322f72732f31362f3332"), false, message.ErrEmptyPayload, nil},
		"a meta too long":              {filter.Frame(pubsub, &message.Message{Payload: []byte("x"), ContentTopic: "a", Meta: make([]byte, 65)}), false, message.ErrMetaTooLong, nil},
		"no content topic":             {filter.Frame(pubsub, text("", "x")), false, filter.ErrNotAsked, nil},
		"a message too large":          {big, false, nil, &tooLarge},
		"a frame too large":            {filter.Frame(pubsub, text("a", strings.Repeat("x", 3000))), true, nil, &frameTooLarge},
		"a pubsub topic that is none":  {push("0a060a01781201611202fffe"), true, filter.ErrMalformed, nil},
		"nothing":                      {push(""), true, filter.ErrMalformed, nil},
		"no message":                   {push("12102f77616b752f322f72732f31362f3332"), true, filter.ErrMalformed, nil},
		"a number for a message":       {push("0801"), true, filter.ErrMalformed, nil},
		"a message that is none":       {push("0a01ff"), true, message.ErrMalformed, nil},
		"a content topic that is none": {push("0a070a01781202fffe"), true, message.ErrMalformed, nil},
		"text":                         {[]byte("GET / HTTP/1.1\r\n\r\n                                                  "), true, filter.ErrMalformed, nil},
		"a length in too many bytes":   {[]byte{0x80, 0x00}, true, wire.ErrBadVarint, nil},
		"2 GiB":                        {p2ptest.Bombs()[0], true, nil, &frameTooLarge},
		"groups without end":           {push(strings.Repeat("a306", 800)), true, filter.ErrMalformed, nil},
	} {
		service(t, filter.ClientConfig{MaxMessageSize: 500}, func(t *testing.T, cl *filter.Client, got *box, server, client host.Host) {
			s := openPush(t, server, client)
			s.Write(c.bytes)
			s.Write(c.bytes)
			require.Equal(t, c.over, over(s), name)
			told := got.told()
			require.Len(t, told, 1, name)
			if c.as != nil {
				require.ErrorAs(t, told[0], c.as, name)
			} else {
				require.ErrorIs(t, told[0], c.is, name)
			}
			s.Write(frame("after"))
			synctest.Wait()
			if c.over {
				s = openPush(t, server, client)
				s.Write(frame("after"))
				synctest.Wait()
			}
			require.Equal(t, []string{"after"}, got.payloads(), name)
		})
	}
}

// Messages with any timestamp and version arrive as they are (A4).
func TestPushedNumbers(t *testing.T) {
	service(t, filter.ClientConfig{}, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		s := openPush(t, server, client)
		for _, ts := range []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64} {
			for _, v := range []uint32{0, 1, 2, math.MaxInt32, math.MaxUint32} {
				m := &message.Message{Payload: []byte("x"), ContentTopic: "a", Timestamp: ts, Version: v}
				s.Write(filter.Frame(pubsub, m))
				synctest.Wait()
				all := got.all()
				p := all[len(all)-1]
				require.Equal(t, ts, p.Message.Timestamp)
				require.Equal(t, v, p.Message.Version)
				require.Equal(t, m.Hash(pubsub), p.Hash)
			}
		}
	})
}

// A stream may rest between pushes, but not before the first nor within one.
func TestSlowPushes(t *testing.T) {
	service(t, filter.ClientConfig{}, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		silent, dripping, stuck := openPush(t, server, client), openPush(t, server, client), openPush(t, server, client)
		go p2ptest.Drip(dripping, frame("x"), 3*time.Second)
		stuck.Write(frame("1"))
		time.Sleep(time.Hour / 2)
		stuck.Write(frame("2")[:10])
		began := time.Now()
		p2ptest.AwaitEnd(stuck)
		require.Equal(t, 10*time.Second, since(began))
		p2ptest.AwaitEnd(silent, dripping)
		synctest.Wait()
		require.Equal(t, []error{filter.ErrSilent, filter.ErrSilent, filter.ErrSilent}, got.told())
		require.Equal(t, []string{"1"}, got.payloads())
		time.Sleep(3 * time.Second)
	})
}

// A thousand streams cost little, and are soon over (A2, A3).
func TestClientUnderAttack(t *testing.T) {
	service(t, filter.ClientConfig{}, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		growth := p2ptest.ThrowBombs(t, server, client, filter.PushID, 1000)
		require.Less(t, growth, int64(16<<20))
		synctest.Wait()
		told := got.told()
		require.Len(t, told, 1000)
		require.Contains(t, told, filter.ErrBusy, "most aren't read at all")

		before := p2ptest.Goroutines()
		began := time.Now()
		var streams []network.Stream
		for i := range 2000 {
			s, err := p2ptest.OpenStream(t.Context(), server, client.ID(), filter.PushID)
			if err != nil {
				continue
			}
			streams = append(streams, s)
			if i%2 == 0 {
				go p2ptest.Drip(s, frame("slow"), 3*time.Second)
			}
		}
		p2ptest.AwaitEnd(streams...)
		require.LessOrEqual(t, since(began), 12*time.Second)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.LessOrEqual(t, p2ptest.Goroutines(), before)
		s := openPush(t, server, client)
		s.Write(frame("after"))
		synctest.Wait()
		require.Equal(t, []string{"after"}, got.payloads())
	})
}

// Streams at once: so many of one peer.
func TestPushStreamLimit(t *testing.T) {
	service(t, filter.ClientConfig{}, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		var streams []network.Stream
		for range 64 {
			s := openPush(t, server, client)
			s.Write(frame("x"))
			streams = append(streams, s)
		}
		synctest.Wait()
		require.Len(t, got.payloads(), 64)
		require.True(t, refused(t, server, client))
		require.Equal(t, []error{filter.ErrBusy}, got.told())
		streams[0].Close()
		synctest.Wait()
		require.False(t, over(openPush(t, server, client)))
	})
}

// A callback that panics or takes its time harms its stream at most.
func TestOnPush(t *testing.T) {
	var calls atomic.Int64
	panics := filter.ClientConfig{OnPush: func(p filter.Push) {
		calls.Add(1)
		if string(p.Message.Payload) == "panic" {
			panic("boom")
		}
		if string(p.Message.Payload) == "wait" {
			time.Sleep(time.Hour)
		}
	}}
	service(t, panics, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		s := openPush(t, server, client)
		s.Write(frame("panic"))
		s.Write(frame("panic"))
		s.Write(frame("fine"))
		synctest.Wait()
		require.Equal(t, int64(3), calls.Load())
		require.Equal(t, []error{&filter.PanicError{Value: "boom"}}, got.told())
		s.Write(frame("wait"))
		s.Write(frame("after"))
		s2 := openPush(t, server, client)
		s2.Write(frame("beside"))
		synctest.Wait()
		require.Equal(t, int64(5), calls.Load())
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, int64(6), calls.Load())
		require.Empty(t, got.told())
	})
}

// Close ends streams, also those that rest.
func TestCloseWhileReceiving(t *testing.T) {
	service(t, filter.ClientConfig{}, func(t *testing.T, c *filter.Client, got *box, server, client host.Host) {
		resting, begun := openPush(t, server, client), openPush(t, server, client)
		resting.Write(frame("x"))
		begun.Write(frame("x")[:5])
		synctest.Wait()
		require.NoError(t, c.Close())
		require.True(t, over(resting))
		require.True(t, over(begun))
		_, err := p2ptest.OpenStream(t.Context(), server, client.ID(), filter.PushID)
		require.Error(t, err)
	})
}

// Memory is asked for before it is used, and given back.
func TestClientMemory(t *testing.T) {
	p2ptest.Bubble(t, func(t *testing.T) {
		m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.PartialLimitConfig{
			Service: map[string]rcmgr.ResourceLimits{"waku.filter": {Memory: 1000}},
		}.Build(rcmgr.DefaultLimits.AutoScale())), rcmgr.WithMetricsDisabled())
		require.NoError(t, err)
		n := p2ptest.New(t, p2ptest.Config{})
		server, h := n.Host(p2ptest.HostConfig{}), n.Host(p2ptest.HostConfig{Resources: m})
		answerBy(server, func([]byte) []byte { return yes("") })
		p2ptest.Connect(t, h, server)
		c, got := client(t, h)
		require.NoError(t, c.Subscribe(t.Context(), server.ID(), shard, []string{"a"}))
		for range 3 {
			s := openPush(t, server, h)
			for range 10 {
				s.Write(filter.Frame(pubsub, number("a", 0, 500)))
			}
			synctest.Wait()
			require.Len(t, got.payloads(), 10)
			s.Write(filter.Frame(pubsub, number("a", 0, 1500)))
			require.True(t, over(s))
			require.ErrorIs(t, got.told()[0], network.ErrResourceLimitExceeded)
		}
	})
}
