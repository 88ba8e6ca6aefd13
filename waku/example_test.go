package waku_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/status-im/shoal/filter"
	"github.com/status-im/shoal/lightpush"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
	"github.com/status-im/shoal/waku"
)

// A signed group chat: who doesn't hold the key can neither speak nor make anybody
// pass on what he says.
func Example() {
	ctx := context.Background()
	key, err := dosguard.GenerateKey() // all members hold it
	if err != nil {
		log.Fatal(err)
	}
	community := waku.Community{
		Shard:     sharding.Shard{Cluster: 16, Index: 128},
		PublicKey: key.PublicKey(),
	}

	ana, anasChat := member(ctx, community, key)
	defer ana.Close()
	bo, bosChat := member(ctx, community, key, waku.WithStaticPeers(ana.Addrs()...))
	defer bo.Close()
	messages := bosChat.Messages(ctx, "/chat/1/lobby/proto")

	sent, err := anasChat.Send(ctx, "/chat/1/lobby/proto", []byte("hello, bo"))
	if err != nil {
		log.Fatal(err)
	}
	if err := sent.Wait(ctx, waku.Propagated); err != nil {
		log.Fatal(err)
	}
	for env, err := range messages {
		fmt.Println(string(env.Message.Payload), err)
		break
	}
	// Output: hello, bo <nil>
}

func member(ctx context.Context, c waku.Community, key *dosguard.PrivateKey, opts ...waku.Option) (*waku.Node, *waku.Membership) {
	node, err := waku.New(ctx, opts...)
	if err != nil {
		log.Fatal(err)
	}
	chat, err := node.Join(ctx, c, waku.SignWith(key))
	if err != nil {
		log.Fatal(err)
	}
	return node, chat
}

// Who was away reads back what was said, from a node that keeps it.
func Example_history() {
	ctx := context.Background()
	key, err := dosguard.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	community := waku.Community{
		Shard:     sharding.Shard{Cluster: 16, Index: 128},
		PublicKey: key.PublicKey(),
	}
	dir, err := os.MkdirTemp("", "history")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	archive, err := sqlite.Open(ctx, filepath.Join(dir, "store.db"), sqlite.Config{
		Policy: store.Policy{Default: store.Retention{MaxAge: 30 * 24 * time.Hour}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer archive.Close() // after the node
	keeper, said := member(ctx, community, key, waku.WithArchive(archive))
	defer keeper.Close()

	for _, text := range []string{"anybody there?", "well, then"} {
		if _, err := said.Send(ctx, "/chat/1/lobby/proto", []byte(text)); err != nil {
			log.Fatal(err)
		}
	}
	for keeper.Health().Archive.Kept < 2 {
		time.Sleep(10 * time.Millisecond)
	}

	bo, chat := member(ctx, community, key, waku.WithStaticPeers(keeper.Addrs()...))
	defer bo.Close()
	yesterday := time.Now().Add(-24 * time.Hour)
	for env, err := range chat.History(ctx, waku.HistoryQuery{Since: yesterday}) {
		if err != nil {
			log.Fatal(err) // what came before it is as it should be
		}
		fmt.Println(string(env.Message.Payload))
	}
	// Output:
	// anybody there?
	// well, then
}

// A phone takes part without relaying: service nodes bring what is said and publish
// what it says.
func Example_light() {
	ctx := context.Background()
	key, err := dosguard.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	community := waku.Community{
		Shard:     sharding.Shard{Cluster: 16, Index: 128},
		PublicKey: key.PublicKey(),
	}
	serving := []waku.Option{
		waku.WithFilterService(filter.ServerConfig{}),
		waku.WithLightPushService(lightpush.ServerConfig{}),
	}
	one, said := member(ctx, community, key, serving...)
	defer one.Close()
	two, _ := member(ctx, community, key, append(serving, waku.WithStaticPeers(one.Addrs()...))...)
	defer two.Close()
	heard := said.Messages(ctx, "/chat/1/lobby/proto")

	phone, err := waku.New(ctx, waku.WithListenAddrs(), waku.WithStaticPeers(one.Addrs()[0], two.Addrs()[0]))
	if err != nil {
		log.Fatal(err)
	}
	defer phone.Close()
	chat, err := phone.Join(ctx, community, waku.SignWith(key), waku.AsLight())
	if err != nil {
		log.Fatal(err)
	}
	if _, err := chat.Send(ctx, "/chat/1/lobby/proto", []byte("hello from the train")); err != nil {
		log.Fatal(err)
	}
	for env, err := range heard {
		fmt.Println(string(env.Message.Payload), err)
		break
	}
	// Output: hello from the train <nil>
}
