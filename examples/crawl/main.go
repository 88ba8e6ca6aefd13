// Crawl walks a network and draws what it finds: who carries which shard, who offers
// what, who is dead.
//
//	crawl --bootnode enr:… --for 30s --html network.html
//
// It begins with nodes' records (--bootnode), lists in DNS (--dns-tree) or a network
// that is known by name (--network), and asks whoever it finds for others. Each node is
// dialled once. The result is a table on stdout, and with --html one page that needs
// nothing else. Ctrl+C ends the walk; what was found until then is shown.
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
	"syscall"

	"github.com/charmbracelet/x/term"
	"github.com/libp2p/go-libp2p/gologshim"

	"github.com/status-im/shoal/waku"
)

func main() {
	// libp2p would write its own log to stderr, over what we draw.
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // who asks twice doesn't want to see the result
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	var option *waku.OptionError
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		usage(os.Stdout)
	case errors.Is(err, errUsage), errors.As(err, &option):
		fmt.Fprintln(os.Stderr, "crawl:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "crawl:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr *os.File) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	node, err := waku.New(ctx, s.options()...)
	if err != nil {
		return inFlags(err)
	}
	w := newWalker(node, s.lasts)
	progress := io.Discard
	if term.IsTerminal(stderr.Fd()) {
		progress = stderr
	}
	shown := showProgress(progress, w)
	w.walk(ctx)
	shown()
	health := node.Health()
	if err := node.Close(); err != nil {
		return err
	}

	r := w.report(health)
	if r.Total == 0 {
		return fmt.Errorf("nobody was found: %s", why(health.Discovery))
	}
	if s.html != "" {
		if err := writePage(s.html, r); err != nil {
			return err
		}
	}
	p := printer{w: stdout, colour: term.IsTerminal(stdout.Fd()) && os.Getenv("NO_COLOR") == ""}
	p.report(r)
	if s.html != "" {
		p.line("")
		p.line("picture: %s", s.html)
	}
	return p.err
}

// why nobody was found.
func why(h waku.DiscoveryHealth) string {
	for _, s := range h.Sources {
		if s.Failure != "" {
			return fmt.Sprintf("%s: %s", s.Name, visible(s.Failure))
		}
	}
	return "who was asked didn't answer, or knew nobody"
}
