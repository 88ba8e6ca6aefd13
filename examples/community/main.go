// Community shows a whole Status community in one process: a fleet node, five
// members and one who comes late, on a shard that the community's key protects.
// Then somebody without the key tries to disturb it. Everything runs on loopback.
//
// It ends by itself, with a table and a verdict on each claim; the exit code is 0
// when all of them held.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/libp2p/go-libp2p/gologshim"
)

// limit is how long the whole show may take.
const limit = 50 * time.Second

func main() {
	pace := flag.Duration("pace", 0, "pause between messages (default: 150ms in a terminal, none otherwise)")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "community shows a community living on its shard, and a stranger failing to disturb it.")
		flag.PrintDefaults()
	}
	flag.Parse()
	tty := term.IsTerminal(os.Stdout.Fd())
	switch {
	case flag.NArg() > 0:
		fmt.Fprintf(os.Stderr, "community: unexpected argument %q: the only setting is --pace\n", flag.Arg(0))
		os.Exit(2)
	case *pace < 0 || *pace > time.Second:
		fmt.Fprintln(os.Stderr, "community: --pace: want 0s to 1s")
		os.Exit(2)
	case *pace == 0 && tty:
		*pace = 150 * time.Millisecond
	}
	// libp2p would write its own log to stderr, over what we draw.
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p := newPrinter(os.Stdout, tty && os.Getenv("NO_COLOR") == "")
	held, err := show(ctx, p, *pace)
	switch {
	case errors.Is(err, context.Canceled):
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "community:", err)
		os.Exit(1)
	case !held:
		os.Exit(1)
	}
}

// show plays the scenes and tells whether every claim held.
func show(ctx context.Context, p *printer, pace time.Duration) (held bool, err error) {
	t, err := newTown(ctx, true)
	if t != nil {
		defer t.close()
	}
	if err != nil {
		return false, err
	}
	t.p, t.pace = p, pace
	return t.play(ctx)
}

func (t *town) play(ctx context.Context) (held bool, err error) {
	began := time.Now()
	t.p.title("A community on shard %s", shard)
	for _, scene := range []func(context.Context) error{t.gather, t.talk, t.welcome, t.disturb, t.carryOn} {
		if err := scene(ctx); err != nil {
			return false, err
		}
	}
	t.settle(ctx)
	t.p.scene("What it came to")
	t.table()
	claims := t.claims()
	closing := time.Now()
	claims = append(claims, claim{t.close() == nil && time.Since(closing) < 5*time.Second,
		"every node closed in time"})
	held = true
	for _, c := range claims {
		t.p.verdict(c.held, c.text)
		held = held && c.held
	}
	t.p.text("\n%.1f s in all", time.Since(began).Seconds())
	return held, nil
}
