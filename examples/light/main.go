// Light takes part in a community without relaying for others, as a phone would:
// service nodes push to it what is said, and publish what it says.
//
//	light --connect ADDR,ADDR --shard 128 --key-file community.key
//
// Two service nodes are better than one: each shows what the other leaves out. What
// is said becomes lines on stdout, quoted, and lines on stdin are said. Ctrl+C ends
// it.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"iter"
	"log"
	"os"
	"os/signal"
	"strings"

	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

const topic = "/light/1/lobby/plain"

func main() {
	addrs := flag.String("connect", "", "`addresses` of service nodes, with commas between them")
	index := flag.String("shard", "128", "`number` of the community's shard")
	file := flag.String("key-file", "community.key", "`file` with the community's private key")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	key := must(dosguard.ParsePrivateKey(strings.TrimSpace(string(must(os.ReadFile(*file))))))
	community := waku.Community{Shard: must(sharding.ParseShard("16/" + *index)), PublicKey: key.PublicKey()}
	node := must(waku.New(ctx, waku.WithListenAddrs(), waku.WithStaticPeers(strings.Split(*addrs, ",")...)))
	defer node.Close()
	go func(events iter.Seq[waku.Event]) {
		for e := range events {
			log.Println(e)
		}
	}(node.Events(ctx))

	chat := must(node.Join(ctx, community, waku.SignWith(key), waku.AsLight()))
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if _, err := chat.Send(ctx, topic, lines.Bytes()); err != nil {
				log.Println("not said:", err)
			}
		}
	}()
	for env, err := range chat.Messages(ctx, topic) {
		if err != nil {
			log.Println(err)
			continue
		}
		fmt.Printf("%q\n", env.Message.Payload)
	}
}

// must ends the program if something can't be done.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatalln("light:", err)
	}
	return v
}
