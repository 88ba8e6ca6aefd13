package p2ptest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"
)

// RelayID is the protocol a RawPubsub speaks unless told otherwise.
const RelayID protocol.ID = "/vac/waku/relay/2.0.0"

const (
	rawMaxRPC       = 16 << 20 // what a RawPubsub is willing to read
	rawWriteTimeout = 20 * time.Second
)

// RawPubsub speaks gossipsub by hand over one host: it sends whatever RPC it is
// told to, answers nothing, and records every RPC its peers send. An attacker,
// or an ear at the far end that counts what was forwarded.
//
//	ear := p2ptest.NewRawPubsub(t, hosts[1])
//	p2ptest.Connect(t, hosts[1], hosts[0])
//	ear.Send(hosts[0].ID(), p2ptest.Subscribe(topic), p2ptest.Graft(topic))
//	…
//	ear.Tally().Messages
//
// Make it before connecting its host: peers open their streams to it as soon
// as identify tells them that it speaks the protocol.
type RawPubsub struct {
	Host host.Host
	ids  []protocol.ID

	wg      sync.WaitGroup
	mu      sync.Mutex
	resumed sync.Cond
	closed  bool
	paused  bool
	in      map[network.Stream]struct{}
	out     map[peer.ID]*rawOut
	got     []Received
}

// Received is one RPC from a peer.
type Received struct {
	From peer.ID
	RPC  *pb.RPC
	Size int // bytes on the stream, without the length prefix
	At   time.Time
}

// rawOut is what goes to one peer. Whoever opens or writes holds turn, so that
// there is one stream and frames don't mix; a channel, because waiting for a
// mutex would stop a bubble's clock.
type rawOut struct {
	turn chan struct{}
	s    network.Stream // nil: to be opened; changed with turn and the lock held
}

// NewRawPubsub lets h speak the given protocols, RelayID when none is named.
// It ends with the test.
func NewRawPubsub(t testing.TB, h host.Host, ids ...protocol.ID) *RawPubsub {
	if len(ids) == 0 {
		ids = []protocol.ID{RelayID}
	}
	r := &RawPubsub{
		Host: h,
		ids:  ids,
		in:   make(map[network.Stream]struct{}),
		out:  make(map[peer.ID]*rawOut),
	}
	r.resumed.L = &r.mu
	for _, id := range ids {
		h.SetStreamHandler(id, r.handle)
	}
	t.Cleanup(r.Close)
	return r
}

// Close resets all streams and waits for their readers.
func (r *RawPubsub) Close() {
	for _, id := range r.ids {
		r.Host.RemoveStreamHandler(id)
	}
	r.mu.Lock()
	r.closed = true
	r.resumed.Broadcast()
	var open []network.Stream
	for s := range r.in {
		open = append(open, s)
	}
	for _, o := range r.out {
		if o.s != nil {
			open = append(open, o.s)
		}
	}
	r.mu.Unlock()
	for _, s := range open {
		s.Reset()
	}
	r.wg.Wait()
}

func (r *RawPubsub) handle(s network.Stream) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		s.Reset()
		return
	}
	r.in[s] = struct{}{}
	r.wg.Add(1)
	r.mu.Unlock()
	defer func() {
		s.Reset()
		r.mu.Lock()
		delete(r.in, s)
		r.mu.Unlock()
		r.wg.Done()
	}()
	br := bufio.NewReader(s)
	for r.waitWhilePaused() {
		b, err := readFrame(br, rawMaxRPC)
		if err != nil {
			return
		}
		rpc := new(pb.RPC)
		if proto.Unmarshal(b, rpc) != nil {
			return
		}
		r.mu.Lock()
		r.got = append(r.got, Received{From: s.Conn().RemotePeer(), RPC: rpc, Size: len(b), At: time.Now()})
		r.mu.Unlock()
	}
}

func (r *RawPubsub) waitWhilePaused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.paused && !r.closed {
		r.resumed.Wait()
	}
	return !r.closed
}

// Pause stops reading after the RPC at hand, so that peers meet back-pressure;
// Resume goes on.
func (r *RawPubsub) Pause() { r.setPaused(true) }

// Resume undoes Pause.
func (r *RawPubsub) Resume() { r.setPaused(false) }

func (r *RawPubsub) setPaused(p bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = p
	r.resumed.Broadcast()
}

// Send writes RPCs to a connected peer, in order, opening the stream first if
// there is none. It blocks while the peer doesn't read.
func (r *RawPubsub) Send(to peer.ID, rpcs ...*pb.RPC) error {
	for _, rpc := range rpcs {
		b, err := proto.Marshal(rpc)
		if err != nil {
			return err
		}
		if err := r.SendBytes(to, Frame(b)); err != nil {
			return err
		}
	}
	return nil
}

// SendBytes writes bytes to the stream as they are, without a length prefix.
// After an error the next call opens a new stream.
func (r *RawPubsub) SendBytes(to peer.ID, b []byte) error {
	r.mu.Lock()
	closed, o := r.closed, r.out[to]
	if o == nil {
		o = &rawOut{turn: make(chan struct{}, 1)}
		r.out[to] = o
	}
	r.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	o.turn <- struct{}{}
	defer func() { <-o.turn }()

	if o.s == nil {
		ctx, cancel := context.WithTimeout(context.Background(), rawWriteTimeout)
		defer cancel()
		s, err := OpenStream(ctx, r.Host, to, r.ids...)
		if err != nil {
			return err
		}
		if !r.set(o, s) {
			s.Reset()
			return net.ErrClosed
		}
	}
	o.s.SetWriteDeadline(time.Now().Add(rawWriteTimeout))
	_, err := o.s.Write(b)
	if err != nil {
		o.s.Reset()
		r.set(o, nil)
	}
	return err
}

// set reports false when the RawPubsub has been closed.
func (r *RawPubsub) set(o *rawOut, s network.Stream) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		o.s = s
	}
	return !r.closed
}

// Received returns everything recorded so far, in order of arrival.
func (r *RawPubsub) Received() []Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// Forget empties the record.
func (r *RawPubsub) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = nil
}

// Messages returns all messages recorded, in order of arrival.
func (r *RawPubsub) Messages() []*pb.Message {
	var ms []*pb.Message
	for _, rec := range r.Received() {
		ms = append(ms, rec.RPC.GetPublish()...)
	}
	return ms
}

// Tally counts what has been recorded, from everyone or from the given peers.
func (r *RawPubsub) Tally(from ...peer.ID) Tally {
	var t Tally
	for _, rec := range r.Received() {
		if len(from) == 0 || slices.Contains(from, rec.From) {
			t.add(rec)
		}
	}
	return t
}

// Tally sums up recorded RPCs. Sizes are bytes on the stream.
type Tally struct {
	RPCs, Bytes            int
	Messages, MessageBytes int // MessageBytes: whole publish entries
	Subscribes             int // topics announced as subscribed
	Grafts, Prunes         int // topics
	IHaves, IWants         int // message ids
	IDontWants             int // message ids
	IDontWantBytes         int
	ControlBytes           int // the whole control part, IDontWantBytes included
}

func (t *Tally) add(r Received) {
	t.RPCs++
	t.Bytes += r.Size
	t.Messages += len(r.RPC.GetPublish())
	t.MessageBytes += proto.Size(&pb.RPC{Publish: r.RPC.GetPublish()})
	for _, s := range r.RPC.GetSubscriptions() {
		if s.GetSubscribe() {
			t.Subscribes++
		}
	}
	c := r.RPC.GetControl()
	if c == nil {
		return
	}
	t.Grafts += len(c.GetGraft())
	t.Prunes += len(c.GetPrune())
	for _, e := range c.GetIhave() {
		t.IHaves += len(e.GetMessageIDs())
	}
	for _, e := range c.GetIwant() {
		t.IWants += len(e.GetMessageIDs())
	}
	for _, e := range c.GetIdontwant() {
		t.IDontWants += len(e.GetMessageIDs())
	}
	t.IDontWantBytes += proto.Size(&pb.ControlMessage{Idontwant: c.GetIdontwant()})
	t.ControlBytes += proto.Size(&pb.RPC{Control: c})
}

// Frame puts the length of b before it, as an unsigned varint.
func Frame(b []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

func readFrame(r *bufio.Reader, limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, errors.New("p2ptest: frame too large")
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}
