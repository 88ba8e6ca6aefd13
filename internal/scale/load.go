package scale

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/status-im/shoal/message"
)

const contentTopic = "/waku/1/0x9c22ff5f/rfc26"

// minSize is the smallest message that has room for its number and the signature.
var minSize = func() int {
	m := newMessage(0, 8, time.Now())
	m.Meta = make([]byte, 64)
	return m.Size()
}()

// utterance is one message of the plan.
type utterance struct {
	at      time.Duration // since the run began
	by      int           // member
	counted bool          // published while counting
	sent    time.Time
	gone    bool // its author had gone
}

// plan decides who says something when: at an even rate, each within its share of
// the time.
func (w *world) plan() {
	c := w.cfg
	add := func(from, lasts time.Duration, counted bool) {
		n := int(c.Rate*lasts.Seconds() + 0.5)
		for i := range n {
			at := from + time.Duration((float64(i)+w.rand.Float64())/float64(n)*float64(lasts))
			w.say = append(w.say, utterance{at: at, by: w.rand.IntN(c.Members), counted: counted})
		}
	}
	add(c.Settle, c.Warm, false)
	add(c.Settle+c.Warm, c.Load, true)
}

// talk publishes according to plan.
func (w *world) talk() {
	for i := range w.say {
		u := &w.say[i]
		if wait := u.at - time.Since(w.began); wait > 0 {
			select {
			case <-time.After(wait):
			case <-w.ctx.Done():
				return
			}
		}
		n := w.nodes[u.by]
		if n.gone.Load() {
			u.gone = true
			continue
		}
		u.sent = time.Now()
		m := newMessage(i, w.cfg.Size, u.sent)
		if err := w.key.Sign(shard.PubsubTopic(), m); err != nil {
			u.gone = true
			continue
		}
		w.wg.Go(func() { _, _ = n.relay.Publish(w.ctx, shard, m) })
	}
}

// newMessage is message number i, of size bytes once it is signed.
func newMessage(i, size int, at time.Time) *message.Message {
	m := &message.Message{ContentTopic: contentTopic, Timestamp: at.UnixNano(), Payload: make([]byte, 8)}
	m.Meta = make([]byte, 64)
	for more := size - m.Size(); more > 0; more = size - m.Size() { // a length may take a byte more
		m.Payload = append(m.Payload, make([]byte, more)...)
	}
	if over := m.Size() - size; over > 0 && len(m.Payload) > 8+over {
		m.Payload = m.Payload[:len(m.Payload)-over]
	}
	m.Meta = nil
	binary.BigEndian.PutUint64(m.Payload, uint64(i))
	noise := rand.New(rand.NewPCG(uint64(i), 1))
	for k := 8; k < len(m.Payload); k++ {
		m.Payload[k] = byte(noise.Uint32())
	}
	return m
}

// listen notes what a node delivers.
func (w *world) listen(n *node) {
	for {
		batch, err := n.sub.Batch(w.ctx, 64)
		if err != nil {
			return
		}
		for _, env := range batch {
			i := int(binary.BigEndian.Uint64(env.Message.Payload))
			if i < 0 || i >= len(w.say) {
				w.forged.Add(1)
				continue
			}
			took := env.ReceivedAt.UnixNano() - env.Message.Timestamp
			if !n.took[i].CompareAndSwap(-1, took) {
				n.twice.Add(1)
				continue
			}
			if env.From != n.host.ID() {
				w.delivered.Add(1)
			}
		}
	}
}
