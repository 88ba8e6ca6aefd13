//go:build nat && linux

package natlab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/internal/metadata"
	"github.com/status-im/shoal/rendezvous"
)

// askAt is where the environment names a rendezvous point, whom this program then asks
// who is registered there.
const askAt = "NATLAB_ASK_AT"

// recordAddrs are the addresses in a record.
func recordAddrs(t *testing.T, record string) (addrs []string) {
	t.Helper()
	r, err := enr.Parse(record)
	require.NoError(t, err)
	for _, a := range r.Addrs() {
		addrs = append(addrs, a.String())
	}
	return addrs
}

// runAsker is the program.
func runAsker() error {
	point, err := peer.AddrInfoFromString(os.Getenv(askAt))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		return err
	}
	defer h.Close()
	defer metadata.Serve(h, metadata.Config{Own: func() metadata.Info {
		return metadata.Info{Cluster: 16, HasCluster: true, Shards: []uint16{128}}
	}}).Close()
	if err := h.Connect(ctx, *point); err != nil {
		return err
	}
	answer, err := rendezvous.NewClient(h, rendezvous.ClientConfig{}).Discover(ctx, point.ID, "rs/16/128", rendezvous.MaxPeers, rendezvous.Cookie{})
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, p := range answer.Peers {
		var addrs []string
		for _, a := range p.Info.Addrs {
			addrs = append(addrs, a.String())
		}
		if err := out.Encode(map[string]any{"what": "registered", "peer": p.Info.ID.String(), "addresses": addrs}); err != nil {
			return err
		}
	}
	return out.Encode(map[string]any{"what": "asked"})
}

// registered asks a relayer who is registered there, and where.
func (c *community) registered(t *testing.T, s *space, r *relayer) map[string][]string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	asker := s.programAt(t, self, []string{askAt + "=" + r.addr})
	asker.await(t, 0, time.Minute, "the answer", what("asked"))
	all := map[string][]string{}
	for _, m := range asker.since(0, what("registered")) {
		all[m.Peer] = m.Addresses
	}
	return all
}

// Whom others can't dial announces circuits and nothing else, to rendezvous points as in
// its record, from the first moment on. Whom they can uses no circuit: it reserves none,
// dials none, announces none.
func TestAnnouncements(t *testing.T) {
	t.Parallel()
	for _, over := range transports {
		t.Run(string(over), func(t *testing.T) {
			t.Parallel()
			c := newCommunity(t, over)
			r := c.relayer(t, c.server(t, "relayer", "11.0.0.2"), "11.0.0.2")
			public := c.member(t, c.home(t, "cai", open, "11.3.0.1", ""), "cai", r)
			public.await(t, 0, time.Minute, "that it is public", func(m moment) bool { return strings.HasPrefix(m.Text, "public: ") })
			mark := public.mark()
			var members []*member
			for i, k := range []kind{portRestricted, symmetric} {
				name := []string{"ana", "bea"}[i]
				m := c.member(t, c.home(t, name, k, fmt.Sprintf("11.1.0.%d", i+1), fmt.Sprintf("192.168.%d.2", i+1)), name, r)
				m.await(t, 0, time.Minute, "a circuit", reservedAt(r))
				members = append(members, m)
			}
			asker := c.server(t, "asker", "11.0.0.9")
			var told map[string][]string
			require.Eventually(t, func() bool {
				told = c.registered(t, asker, r)
				return len(told) == 3
			}, time.Minute, time.Second, "three are registered")
			for _, m := range members { // all talk with the public one, whom they dial
				public.await(t, 0, time.Minute, "a message", directly(m))
				m.await(t, 0, time.Minute, "a message", directly(public))
			}
			told = c.registered(t, asker, r)
			for _, m := range members {
				name := m.called()
				require.NotEmpty(t, told[m.id], name)
				for _, at := range told[m.id] {
					assert.Contains(t, at, "/p2p-circuit", "%s is registered there", name)
					assert.NotContains(t, at, m.home.inside, name)
				}
				records := m.since(0, what("record"))
				require.NotEmpty(t, records)
				for _, x := range records {
					for _, at := range recordAddrs(t, x.Text) {
						assert.Contains(t, at, "/p2p-circuit", "%s has this in its record", name)
						assert.NotContains(t, at, m.home.inside, name)
					}
				}
				assert.NotEmpty(t, recordAddrs(t, records[len(records)-1].Text), name)
			}
			for _, kind := range []string{"circuit connected", "circuit reserved", "hole punched"} {
				assert.Empty(t, public.since(mark, what(kind)), "a public node uses no circuit")
			}
			isCircuit := func(at string) bool { return strings.Contains(at, "/p2p-circuit") }
			assert.NotEmpty(t, told[public.id])
			assert.False(t, slices.ContainsFunc(told[public.id], isCircuit), told[public.id])
			records := public.since(0, what("record"))
			last := recordAddrs(t, records[len(records)-1].Text)
			assert.Equal(t, over == tcp, len(last) > 0, "records have no place for QUIC")
			assert.False(t, slices.ContainsFunc(last, isCircuit), last)
			t.Logf("%s: registered: %v", over, told)
		})
	}
}
