package waku_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/message/segment"
	"github.com/status-im/shoal/waku"
)

// crowd is a community whose members all follow its description.
type crowd struct {
	*bigTown
	owner   *waku.Membership
	nodes   []*waku.Node // the members'; the owner's isn't among them
	members []*waku.Membership
}

func newCrowd(t *testing.T, members int, control bool) *crowd {
	w := &crowd{bigTown: newBigTown(t)}
	c := w.c
	if !control {
		c.Control = nil
	}
	owner, m := w.member(t, c)
	w.owner = m
	relays := []*waku.Node{owner}
	for i := range members {
		var opts []waku.JoinOption
		if i%2 == 1 {
			opts = append(opts, waku.AsLight())
		}
		n, m := w.member(t, c, opts...)
		if i%2 == 0 {
			connect(t, n, relays[max(0, len(relays)-4):]...)
			relays = append(relays, n)
		}
		w.nodes, w.members = append(w.nodes, n), append(w.members, m)
	}
	meshed(t, 1, relays...)
	return w
}

// follow has every member wait for a version, and returns when all have it.
func (w *crowd) follow(t *testing.T, wait func(i int, m *waku.Membership) []byte, payload []byte) {
	var all sync.WaitGroup
	got := make([]bool, len(w.members))
	for i, m := range w.members {
		all.Go(func() { got[i] = bytes.Equal(payload, wait(i, m)) })
	}
	all.Wait()
	assert.NotContains(t, got, false, "who got it")
}

// bytes that members moved for messages, on a shard: in and out of all of them.
func (w *crowd) moved(class waku.Class, control bool) (in, out, most uint64) {
	id := town
	if control {
		id = townControl
	}
	for _, n := range w.nodes {
		x := cost(n, id, class)
		in, out, most = in+x.BytesIn, out+x.BytesOut, max(most, x.BytesIn+x.BytesOut)
	}
	return in, out, most
}

// A description of 3 MB reaches everybody: by the control shard one download for each
// member and version and nothing on the content shard; by the content shard for
// comparison.
func TestControlCost(t *testing.T) {
	const size = 3 << 20
	members := 50
	if testing.Short() {
		members = 6
	}
	var total [2]uint64
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newCrowd(t, members, true)
		followers := make([]*waku.Latest, members)
		for i, m := range w.members {
			followers[i] = latest(t, m.Control(), waku.LatestConfig{Watch: []string{lobby}})
		}
		for version := range uint64(2) {
			payload := description(version, size)
			d, err := w.owner.SendLarge(within(t), charter, payload, waku.OfType(waku.TypeCommunityDescription))
			require.NoError(t, err)
			require.NoError(t, d.Wait(within(t), waku.Stored))
			_, err = w.owner.Send(within(t), lobby, []byte("there is a new description"), waku.OfClass(waku.ClassControl))
			require.NoError(t, err)
			w.follow(t, func(i int, _ *waku.Membership) []byte {
				v, err := followers[i].Next(short(t, time.Hour))
				if err != nil {
					return nil
				}
				return v.Payload
			}, payload)
		}
		for i, f := range followers {
			st := f.Stats()
			assert.Equal(t, 8, int(st.Fetched), "member %d: four segments of each version, once", i)
			assert.Zero(t, st.Refused)
		}
		for _, n := range append(slices.Clone(w.nodes), w.fleet...) {
			assert.Zero(t, cost(n, town, waku.ClassChat), "nothing on the content shard")
			assert.Zero(t, cost(n, town, waku.ClassControl), "nothing on the content shard")
		}
		in, out, most := w.moved(waku.ClassControl, true)
		total[0] = (in + out) / 2
		assert.Less(t, float64(most), 2.01*size, "a member's bytes for two versions")
		t.Logf("control shard: %d members moved %s in and %s out for each version: %.3f times its size each; the most any did: %.3f",
			members, mib(in/2), mib(out/2), float64(in+out)/2/size/float64(members), float64(most)/2/size)
		t.Logf("in the report of a light member:\n%s", w.nodes[1].Telemetry().Report())
	})
	p2ptest.Bubble(t, func(t *testing.T) {
		w := newCrowd(t, members, false)
		readers := make([]*waku.Reader, members)
		for i, m := range w.members {
			readers[i] = subscribe(t, m, charter)
		}
		for i, n := range w.nodes {
			p2ptest.Eventually(t, func() bool {
				h := shardHealth(n, town)
				return h.Light == nil || h.Mode == waku.ModeRelay || h.State == waku.Sufficient
			}, "member %d has no service peers", i)
		}
		payload := description(0, size)
		d, err := w.owner.SendLarge(within(t), charter, payload)
		require.NoError(t, err)
		require.NoError(t, d.Wait(within(t), waku.Stored))
		w.follow(t, func(i int, _ *waku.Membership) []byte { return assembled(short(t, time.Hour), readers[i]) }, payload)
		time.Sleep(time.Minute) // copies come late
		in, out, most := w.moved(waku.ClassChat, false)
		total[1] = in + out
		t.Logf("content shard: %d members moved %s in and %s out: %.3f times its size each; the most any did: %.3f",
			members, mib(in), mib(out), float64(in+out)/size/float64(members), float64(most)/size)
	})
	t.Logf("the content shard costs members %.2f times the bytes of the control shard", float64(total[1])/float64(total[0]))
	assert.Greater(t, 2*total[1], 3*total[0], "with wide meshes it is twice as much again")
}

func mib(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// assembled reads segments until they make a whole.
func assembled(ctx context.Context, r *waku.Reader) []byte {
	a := segment.NewAssembler(segment.Config{})
	for {
		env, err := r.Next(ctx)
		if err != nil {
			return nil
		}
		s, err := segment.Decode(env.Message.Payload)
		if err != nil {
			return nil
		}
		if whole, err := a.Add("", s); whole != nil || err != nil {
			return whole
		}
	}
}
