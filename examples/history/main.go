// History reads back what was said in a community, from a node with a store.
//
//	history --connect ADDR --shard 128 --public-key HEX --since 24h
//
// Every message is a line on stdout: its time, its content topic and what it
// says. With --follow it goes on with what is said now, until Ctrl+C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/gologshim"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/waku"
)

func main() {
	// libp2p would write its own log to stderr.
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	var option *waku.OptionError
	switch {
	case err == nil, ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
	case errors.Is(err, flag.ErrHelp):
		usage(os.Stdout)
	case errors.Is(err, errUsage), errors.As(err, &option):
		fmt.Fprintln(os.Stderr, "history:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "history:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	network := waku.Local
	network.Cluster = s.shard.Cluster
	node, err := waku.New(ctx,
		waku.WithNetwork(network),
		waku.WithListenAddrs(), // it calls, nobody calls it
		waku.WithStaticPeers(s.connect...),
		waku.WithUserAgent("shoal-history"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	// With the public key, messages that a member didn't sign are refused.
	reader, err := node.Join(ctx, waku.Community{Shard: s.shard, PublicKey: s.publicKey})
	if err != nil {
		return err
	}

	q := waku.HistoryQuery{ContentTopics: s.topics, Backward: s.backward, Limit: s.limit, Follow: s.follow}
	if s.since > 0 {
		q.Since = time.Now().Add(-s.since)
	}
	for env, err := range reader.History(ctx, q) {
		switch {
		case errors.Is(err, waku.ErrNoStorePeer):
			return fmt.Errorf("no store node for shard %s: %s", s.shard, why(node))
		case err != nil:
			return err
		}
		if _, err := fmt.Fprintln(stdout, line(env.Message)); err != nil {
			return fmt.Errorf("stdout: %w", err)
		}
	}
	return nil
}

// why there is nobody to ask.
func why(node *waku.Node) string {
	h := node.Health()
	if h.Peers > 0 {
		return "who is connected keeps no messages of it"
	}
	return h.Summary
}

// line is a message for people.
func line(m *message.Message) string {
	at := time.Unix(0, m.Timestamp).Format("2006-01-02 15:04:05.000")
	return fmt.Sprintf("%s %s %s", at, visible(m.ContentTopic), visible(string(m.Payload)))
}

// visible keeps what strangers wrote from doing anything to the terminal.
func visible(text string) string {
	for _, r := range text {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	return text
}
