//go:build soak && linux

package scorecard

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// slowFor is how long some don't read.
var slowFor = flag.Duration("slow", 5*time.Minute, "how long subscribers don't read, in the soak test of that")

// subscribing has callers subscribe: the i-th to Topics of them from i*Step on, of All.
type subscribing struct {
	From, To          int // which callers
	Topics, Step, All int
}

// audience is what callers have heard.
type audience struct {
	mu      sync.Mutex
	wanted  map[string]int // by topic: how many listen
	heard   int
	took    []time.Duration
	doubled int
	stalled chan struct{} // closed for those who stop reading to go on
	deaf    map[int]bool
}

func (cs *callers) subscribe(s subscribing) (failed map[string]int) {
	failed = map[string]int{}
	if cs.audience.wanted == nil {
		cs.audience.wanted, cs.audience.deaf, cs.audience.stalled = map[string]int{}, map[int]bool{}, make(chan struct{})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := s.From; i < s.To; i++ {
		c := cs.all[i]
		seen := map[message.Hash]bool{}
		var topics []string
		for n := range s.Topics {
			topics = append(topics, topicOf((i*s.Step+n)%s.All))
		}
		c.heard = func(p filter.Push) {
			a := &cs.audience
			a.mu.Lock()
			if a.deaf[i] {
				a.mu.Unlock()
				<-a.stalled
				return
			}
			defer a.mu.Unlock()
			if seen[p.Hash] {
				a.doubled++
			}
			seen[p.Hash] = true
			a.heard++
			a.took = append(a.took, time.Since(time.Unix(0, p.Message.Timestamp)))
		}
		if err := c.filter.Subscribe(ctx, nodeInfo.ID, shard, topics); err != nil {
			failed[err.Error()]++
			continue
		}
		cs.audience.mu.Lock()
		for _, x := range topics {
			cs.audience.wanted[x]++
		}
		cs.audience.mu.Unlock()
	}
	return failed
}

// subscribed notes who listens, for counting.
func (cs *callers) subscribed(s subscribing) (n int) {
	for i := s.From; i < s.To; i++ {
		for j := range s.Topics {
			cs.audience.wanted[topicOf((i*s.Step+j)%s.All)]++
			n++
		}
	}
	return n
}

func (cs *callers) unsubscribe() (n int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, c := range cs.all {
		if c.filter.UnsubscribeAll(ctx, nodeInfo.ID) == nil {
			n++
		}
	}
	clear(cs.audience.wanted)
	return n
}

// deafen makes callers stop reading.
func (cs *callers) deafen(n int) int {
	a := &cs.audience
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range n {
		a.deaf[i] = true
	}
	for t := range a.wanted { // they want no longer
		a.wanted[t] = 0
	}
	return n
}

// publishing has the last caller, who relays, publish.
type publishing struct {
	Rate, All, Size int
	For             time.Duration
	Ping            time.Duration // how often each subscriber pings meanwhile; 0: never
	Healthy         int           // from this caller on they count
}

// published is what became of it.
type published struct {
	Sent, Wanted, Heard, Doubled, PingsFailed int
	P50, P99, Max                             time.Duration
	CPU                                       float64
	Hashes                                    []message.Hash
}

func (p published) String() string {
	return fmt.Sprintf("%d sent, %d of %d pushes heard, %d doubled, %d pings failed; p50 %v, p99 %v, max %v; load %.0f %% of a core",
		p.Sent, p.Heard, p.Wanted, p.Doubled, p.PingsFailed, p.P50.Round(100*time.Microsecond), p.P99.Round(100*time.Microsecond), p.Max.Round(100*time.Microsecond), 100*p.CPU)
}

func (cs *callers) publish(p publishing) (r published) {
	before, began := costs().CPU, time.Now()
	// They stand for many programs, which don't wait for each other's garbage: of all
	// that is measured, this would take longest.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(3 << 30))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	a := &cs.audience
	a.mu.Lock()
	a.heard, a.took, a.doubled = 0, nil, 0
	a.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	var pinging sync.WaitGroup
	var mu sync.Mutex
	if p.Ping > 0 {
		for i, c := range cs.all[p.Healthy : len(cs.all)-1] {
			pinging.Go(func() {
				wait := p.Ping * time.Duration(i) / time.Duration(len(cs.all))
				for {
					select {
					case <-time.After(wait):
					case <-ctx.Done():
						return
					}
					wait = p.Ping
					if err := c.filter.Ping(ctx, nodeInfo.ID); err != nil && ctx.Err() == nil {
						mu.Lock()
						r.PingsFailed++
						mu.Unlock()
					}
				}
			})
		}
	}
	perTopic := map[string]int{}
	for time.Since(began) < p.For {
		time.Sleep(time.Until(began.Add(time.Duration(r.Sent) * time.Second / time.Duration(p.Rate))))
		m := &message.Message{Payload: payload2K(int64(r.Sent))[:p.Size], ContentTopic: topicOf(r.Sent % p.All), Timestamp: time.Now().UnixNano()}
		check(key.Sign(shard.PubsubTopic(), m))
		_, err := cs.author.Publish(ctx, shard, m)
		check(err)
		perTopic[m.ContentTopic]++
		r.Hashes = append(r.Hashes, m.Hash(shard.PubsubTopic()))
		r.Sent++
	}
	a.mu.Lock()
	for topic, n := range perTopic {
		r.Wanted += n * a.wanted[topic]
	}
	a.mu.Unlock()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		a.mu.Lock()
		done := a.heard >= r.Wanted
		a.mu.Unlock()
		if done {
			break
		}
	}
	stop()
	pinging.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	r.Heard, r.Doubled = a.heard, a.doubled
	slices.Sort(a.took)
	if n := len(a.took); n > 0 {
		r.P50, r.P99, r.Max = a.took[n/2], a.took[n*99/100], a.took[n-1]
	}
	r.CPU = (costs().CPU - before) / time.Since(began).Seconds()
	return r
}

// archived counts what a store has of messages.
func (cs *callers) archived(hashes []message.Hash) (n int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for part := range slices.Chunk(hashes, 100) {
		have, err := cs.all[len(cs.all)-1].store.Has(ctx, nodeInfo.ID, part)
		check(err)
		for _, yes := range have {
			if yes {
				n++
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return n
}

// join makes the last caller an author.
func (cs *callers) join() string {
	r, err := relay.New(cs.all[len(cs.all)-1].host, relay.Config{})
	check(err)
	_, err = r.Subscribe(shard, relay.SubscribeConfig{})
	check(err)
	cs.author = r
	return "done"
}

// only are the counts whose names begin so.
func (c cost) only(prefix string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(c.Counts)) {
		if strings.HasPrefix(name, prefix) && c.Counts[name] != 0 {
			words = append(words, fmt.Sprintf("%s %.0f", name, c.Counts[name]))
		}
	}
	return strings.Join(words, ", ")
}

// crowd begins a node and n subscribers and an author beside it.
func crowd(t *testing.T, n int, archive string) (node, all *actor) {
	s := newStreet(t)
	node = s.node(nodeParams{Conns: 3 * (n + 10), PerIP: 100, Filter: true, Archive: archive})
	places := addresses(20, (n+19)/20)
	all = s.begin("caller", loadCPU, callerParams{IDs: n + 1, Addrs: places}, places...)
	var r connected
	all.ask("connect", nil, &r)
	t.Log(r)
	require.Empty(t, r.Errors)
	all.ask("join", nil, new(string))
	time.Sleep(3 * time.Second)
	return node, all
}

// Row C5: a thousand subscribers with a hundred topics each.
func TestSoakFilterCapacity(t *testing.T) {
	const members = 1000
	node, all := crowd(t, members, "")
	for _, c := range []struct {
		share     string
		all, step int
	}{{"a tenth", 1000, 1}, {"all", 100, 0}} {
		failed := map[string]int{}
		all.ask("subscribe", subscribing{To: members, Topics: 100, Step: c.step, All: c.all}, &failed)
		require.Empty(t, failed)
		var before, after cost
		node.ask("cost", nil, &before)
		began := time.Now()
		var r published
		all.ask("publish", publishing{Rate: 14, All: c.all, Size: 1000, For: 40 * time.Second, Ping: 30 * time.Second}, &r)
		took := time.Since(began)
		node.ask("cost", nil, &after)
		t.Logf("each message for %s of %d: %v", c.share, members, r)
		t.Logf("node: %.0f %% of a core, %v; %s", 100*(after.CPU-before.CPU)/took.Seconds(), after, after.only("waku_filter"))
		require.Equal(t, r.Wanted, r.Heard)
		require.Zero(t, r.Doubled)
		require.Zero(t, r.PingsFailed)
		require.LessOrEqual(t, after.RSS, uint64(500<<20))
		require.LessOrEqual(t, r.P99, 200*time.Millisecond)
		all.ask("unsubscribe", nil, new(int))
	}
}

// Row C4: fifty of five hundred subscribers stop reading.
func TestSoakSlowReaders(t *testing.T) {
	const members, slow, topics = 500, 50, 100
	node, all := crowd(t, members, t.TempDir()+"/archive.db")
	failed := map[string]int{}
	all.ask("subscribe", subscribing{To: slow, Topics: topics, All: topics}, &failed) // all that is said
	require.Empty(t, failed)
	all.ask("subscribe", subscribing{From: slow, To: members, Topics: topics / 5, Step: 1, All: topics}, &failed)
	require.Empty(t, failed)
	says := publishing{Rate: 50, All: topics, Size: 2000, For: 20 * time.Second, Healthy: slow, Ping: 30 * time.Second}
	var quiet, stalled published
	all.ask("publish", says, &quiet)
	t.Log("all read:", quiet)
	require.Equal(t, quiet.Wanted, quiet.Heard)
	var before, peak, now cost
	node.ask("cost", nil, &before)
	all.ask("deafen", slow, new(int))
	all.ask("subscribed", subscribing{From: slow, To: members, Topics: topics / 5, Step: 1, All: topics}, new(int))
	says.For = *slowFor
	began := time.Now()
	all.tell("publish", says)
	var dropped time.Duration
	for time.Since(began) < says.For {
		node.ask("cost", nil, &now)
		if now.Heap > peak.Heap {
			peak = now
		}
		if dropped == 0 && now.Counts["evicted"] == slow {
			dropped = time.Since(began)
		}
		time.Sleep(time.Second)
	}
	all.hear(&stalled)
	node.ask("cost", nil, &now)
	t.Logf("%d don't read, for %v: %v", slow, says.For, stalled)
	t.Logf("the last of them was dropped after %v; node at its peak %v (before: %v), then %v", dropped.Round(time.Second), peak, before, now)
	t.Logf("%.0f evicted, %.0f pushes dropped and told of", now.Counts["evicted"], now.Counts["dropped"])
	t.Logf("%.0f %% of a core; %s", 100*(now.CPU-before.CPU)/time.Since(began).Seconds(), now.only("waku_filter"))
	require.Equal(t, stalled.Wanted, stalled.Heard)
	require.LessOrEqual(t, stalled.P99, 250*time.Millisecond)
	require.NotZero(t, dropped)
	require.LessOrEqual(t, dropped, 30*time.Second)
	require.LessOrEqual(t, peak.Heap, before.Heap+slow<<20)
	var have int
	all.ask("archived", stalled.Hashes, &have)
	t.Logf("%d of %d are in the archive", have, len(stalled.Hashes))
	require.Equal(t, len(stalled.Hashes), have)
}
