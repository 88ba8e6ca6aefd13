// Holepunch shows how members behind home routers come to talk directly: start it in two
// homes, each with the address of a relayer of the community.
//
//	servicenode --network own --listen /ip4/0.0.0.0/tcp/30303 --shards 128 …   # somewhere public
//	holepunch --peer /ip4/203.0.113.7/tcp/30303/p2p/16Uiu2… --name ana --key-file community.key
//
// Each finds out that nobody can dial it, reserves a circuit at the relayer, registers
// it there under its shard, finds the other, calls it over the circuit, and both punch
// through their routers. From then on the relayer isn't needed any more: end it, and the
// talk goes on. What happens is shown as it happens; when piped, as lines of JSON.
package main

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/gologshim"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

const topic = "/holepunch/1/lobby/plain"

func main() {
	peers := flag.String("peer", "", "`addresses` of relayers, with commas between them")
	listen := flag.String("listen", "/ip4/0.0.0.0/tcp/0,/ip4/0.0.0.0/udp/0/quic-v1", "`addresses` to listen on")
	index := flag.String("shard", "128", "`number` of the community's shard")
	file := flag.String("key-file", "community.key", "`file` with the community's private key")
	name := flag.String("name", "somebody", "`name` that the others see")
	mapping := flag.Bool("map-ports", false, "ask the router to let others in (UPnP, NAT-PMP)")
	every := flag.Duration("every", time.Second, "how often to say something")
	flag.Parse()
	if *peers == "" {
		log.Fatalln("holepunch: --peer is missing: through whom shall the others be found?")
	}
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	key := must(dosguard.ParsePrivateKey(strings.TrimSpace(string(must(os.ReadFile(*file))))))
	community := waku.Community{Shard: must(sharding.ParseShard("16/" + *index)), PublicKey: key.PublicKey()}
	opts := []waku.Option{
		waku.WithNetwork(waku.Network{Name: "own", Cluster: community.Shard.Cluster, MaxMessageSize: message.LargeMaxSize}),
		waku.WithNAT(),
		waku.WithListenAddrs(strings.Split(*listen, ",")...),
		waku.WithStaticPeers(strings.Split(*peers, ",")...),
	}
	if *mapping {
		opts = append(opts, waku.WithPortMapping())
	}
	node := must(waku.New(ctx, opts...))
	defer node.Close()
	show := newTimeline(os.Stdout)
	events := node.Events(ctx)
	show.moment("started", node.PeerID(), strings.Join(node.Addrs(), " "))
	if h := node.Health().NAT; h.Reachability != waku.ReachabilityUnknown {
		show.moment(waku.ReachabilityChanged.String(), "", h.Reachability.String()+": "+h.Reason)
	}
	go follow(ctx, node, show, events)

	chat := must(node.Join(ctx, community, waku.SignWith(key)))
	go speak(ctx, chat, *name, *every, show)
	for env, err := range chat.Messages(ctx, topic) {
		if err != nil {
			show.moment("lost", "", err.Error())
		} else if env.From != node.PeerID() {
			show.message(env.From, string(env.Message.Payload), place(node, env.From))
		}
	}
}

// follow shows what happens to the node.
func follow(ctx context.Context, node *waku.Node, show *timeline, events iter.Seq[waku.Event]) {
	go func() {
		for said, record := "", ""; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			if h := node.Health(); h.Summary != said {
				said = h.Summary
				show.moment("health", "", said)
			}
			if r := node.ENR(); r != record && !show.people {
				record = r
				show.moment("record", "", record)
			}
		}
	}()
	for e := range events {
		text := e.Reason
		switch e.Kind {
		case waku.DeliveryLate, waku.DeliveryFailed: // nobody keeps what is said here
			continue
		case waku.ReachabilityChanged:
			text = e.Reachability.String() + ": " + e.Reason
		case waku.PeerConnected:
			text = place(node, e.Peer)
		case waku.PeersFound:
			text = fmt.Sprintf("%d of shard %s", e.Count, e.Shard)
		case waku.ShardHealthChanged:
			text = fmt.Sprintf("shard %s is %s, peers: %d", e.Shard, e.State, e.Count)
		case waku.LightFallback:
			text = map[bool]string{true: "begun", false: "ended"}[e.Count > 0]
		}
		show.moment(e.Kind.String(), e.Peer, text)
	}
}

// place is where a peer is connected.
func place(node *waku.Node, id peer.ID) string {
	for _, p := range node.Peers() {
		if p.ID == id {
			return p.Addr
		}
	}
	return ""
}

// speak says something now and then, as soon as somebody is there to hear it.
func speak(ctx context.Context, chat *waku.Membership, name string, every time.Duration, show *timeline) {
	for n := 1; ctx.Err() == nil; time.Sleep(every) {
		sent, err := chat.Send(ctx, topic, fmt.Appendf(nil, "%s: hello %d", name, n))
		if err == nil && sent.Wait(ctx, waku.Propagated) == nil {
			show.said(n)
			n++
		}
	}
}

// must ends the program if something can't be done.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatalln("holepunch:", err)
	}
	return v
}
