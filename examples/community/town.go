package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store/sqlite"
	"github.com/status-im/shoal/waku"
)

// shard carries what members say, control what holds the community together.
var (
	shard   = sharding.Shard{Cluster: sharding.StatusCluster, Index: 128}
	control = sharding.Shard{Cluster: sharding.StatusCluster, Index: 896}
)

const (
	lobby = "/town/1/lobby/plain"
	// charter is where the community's description is published, notes where is said
	// that there is another one.
	charter = "/town/1/charter/plain"
	notes   = "/town/1/notes/plain"
)

// town is everybody who takes part.
type town struct {
	p        *printer
	pace     time.Duration
	patience time.Duration // for what should happen at once

	key     *dosguard.PrivateKey
	fleet   *fleetNode
	second  *fleetNode      // another one, so that light members have two
	archive *sqlite.Archive // the fleet node's
	dir     string          // of the archive
	members []*member
	present int // those who were there from the beginning

	said    []said // by members, in order
	cut     chan peer.ID
	tries   []attempt // by the stranger
	charter published
	moved   map[*prometheus.Registry]moved // before the description
	read    reading                        // by who came late

	witness   *plainPeer
	witnessed int // how much was said before it listened

	closeOnce sync.Once
	closed    error
}

// said is one message of a member, and who was there to hear it.
type said struct {
	hash    message.Hash
	by      *member
	present int // the first so many members
}

// newTown starts the fleet nodes: they know the community's public key and nothing
// else about it; unless protect is set the first not even that. On error the town
// returned still needs to be closed.
func newTown(ctx context.Context, protect bool) (*town, error) {
	key, err := dosguard.GenerateKey()
	if err != nil {
		return nil, err
	}
	t := &town{key: key, cut: make(chan peer.ID, 1), patience: 5 * time.Second}
	if t.dir, err = os.MkdirTemp("", "community"); err != nil {
		return nil, err
	}
	if t.archive, err = sqlite.Open(ctx, filepath.Join(t.dir, "store.db"), sqlite.Config{}); err != nil {
		return t, err
	}
	knowing := []waku.Option{waku.WithProtectedShard(shard, key.PublicKey()), waku.WithProtectedShard(control, key.PublicKey())}
	options := []waku.Option{waku.WithArchive(t.archive)}
	if protect {
		options = append(options, knowing...)
	}
	if t.fleet, err = newFleetNode(ctx, options...); err != nil {
		return t, err
	}
	if t.second, err = newFleetNode(ctx, append(knowing, waku.WithStaticPeers(t.fleet.Addrs()[0]))...); err != nil {
		return t, err
	}
	go t.watch(t.fleet.Events(context.Background())) // ends with the node
	return t, nil
}

func (t *town) watch(events func(func(waku.Event) bool)) {
	for e := range events {
		if e.Kind != waku.PeerCut {
			continue
		}
		select {
		case t.cut <- e.Peer:
		default:
		}
	}
}

// close ends all nodes at once.
func (t *town) close() error {
	t.closeOnce.Do(func() {
		var wg sync.WaitGroup
		errs := make([]error, len(t.members)+4)
		for i, m := range t.members {
			wg.Go(func() { errs[i] = m.leave() })
		}
		wg.Go(func() {
			if t.fleet != nil {
				errs[len(t.members)] = t.fleet.Close()
			}
			if t.archive != nil { // when nobody asks or fills it any more
				errs[len(t.members)+1] = t.archive.Close()
			}
			errs[len(t.members)+2] = os.RemoveAll(t.dir)
		})
		if t.second != nil {
			wg.Go(func() { errs[len(t.members)+3] = t.second.Close() })
		}
		if t.witness != nil {
			wg.Go(func() { t.witness.close() })
		}
		wg.Wait()
		t.closed = errors.Join(errs...)
	})
	return t.closed
}

// arrive brings a member, connected with the fleet nodes and, if it relays, with
// whoever came just before.
func (t *town) arrive(ctx context.Context, name string, light bool, opts ...waku.JoinOption) (*member, error) {
	addrs := []string{t.fleet.Addrs()[0], t.second.Addrs()[0]}
	if relaying := t.relaying(); !light {
		for _, m := range relaying[max(0, len(relaying)-2):] {
			addrs = append(addrs, m.node.Addrs()[0])
		}
	}
	m, err := newMember(ctx, name, light, t.key, addrs, opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.members = append(t.members, m)
	return m, nil
}

// relaying are the members who relay.
func (t *town) relaying() (list []*member) {
	for _, m := range t.members {
		if !m.light {
			list = append(list, m)
		}
	}
	return list
}

// lights are those who don't.
func (t *town) lights() (list []*member) {
	for _, m := range t.members {
		if m.light {
			list = append(list, m)
		}
	}
	return list
}

// say lets a member speak.
func (t *town) say(ctx context.Context, m *member, text string) error {
	d, err := m.in.Send(ctx, lobby, []byte(m.name+": "+text))
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	t.said = append(t.said, said{d.Hash, m, len(t.members)})
	m.sent++
	t.p.speech(m.name, text)
	return t.pause(ctx)
}

func (t *town) pause(ctx context.Context) error {
	if t.pace == 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(t.pace):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// due is what a member should have got: what others said while it was there.
func (t *town) due(m *member) map[message.Hash]bool {
	due := map[message.Hash]bool{}
	for i, present := range t.members {
		if present != m {
			continue
		}
		for _, s := range t.said {
			if s.by != m && i < s.present {
				due[s.hash] = true
			}
		}
	}
	return due
}

// real is everything that members said.
func (t *town) real() map[message.Hash]bool {
	real := map[message.Hash]bool{}
	for _, s := range t.said {
		real[s.hash] = true
	}
	return real
}

// settle waits until everybody got what is due, the archive included, within
// reason.
func (t *town) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*t.patience)
	defer cancel()
	for _, m := range t.members {
		m.await(ctx, t.due(m))
	}
	_ = until(ctx, func() bool { return t.archived(ctx) }) // the claims tell
	if t.witness != nil {
		_ = until(ctx, func() bool { return t.testimony().missed == 0 }) // the claims tell
	}
}

// until asks again and again until ok or ctx ends.
func until(ctx context.Context, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
