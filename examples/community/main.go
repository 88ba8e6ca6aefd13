// Community shows a whole Status community in one process: two fleet nodes, five
// members who relay, two light ones who don't, and one who comes late, on a shard
// that the community's key protects. A fleet node keeps what they say, and the
// latecomer reads it back. Then somebody without the key tries to disturb it. At last
// the community's description, 3 MB, is published on a shard of its own, and a member
// sleeps through half of it.
// Everything runs on loopback.
//
// It ends by itself, with a table and a verdict on each claim; the exit code is 0
// when all of them held.
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
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/libp2p/go-libp2p/gologshim"
)

// limit is how long the whole show may take.
const limit = 90 * time.Second

func main() {
	tty := term.IsTerminal(os.Stdout.Fd())
	pace, err := parse(os.Args[1:], tty)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("community shows a community living on its shard, and a stranger failing to disturb it.\n\n" +
			"  --pace duration\n        pause between messages, 0s to 1s (default: 150ms in a terminal, none otherwise)")
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "community:", err)
		os.Exit(2)
	}
	// libp2p would write its own log to stderr, over what we draw.
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p := newPrinter(os.Stdout, tty && os.Getenv("NO_COLOR") == "")
	held, err := show(ctx, p, pace)
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

func parse(args []string, tty bool) (pace time.Duration, err error) {
	f := flag.NewFlagSet("community", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	if tty {
		pace = 150 * time.Millisecond
	}
	f.DurationVar(&pace, "pace", pace, "")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("%w (the only setting is --pace, such as --pace 300ms)", err)
	case f.NArg() > 0:
		return 0, fmt.Errorf("unexpected argument %q: the only setting is --pace", f.Arg(0))
	case pace < 0 || pace > time.Second:
		return 0, errors.New("--pace: want 0s to 1s")
	}
	return pace, nil
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
	for _, scene := range []func(context.Context) error{t.gather, t.talk, t.welcome, t.disturb, t.carryOn, t.describe} {
		if err := scene(ctx); err != nil {
			return false, err
		}
	}
	t.settle(ctx)
	t.p.scene("What it came to")
	t.table()
	claims := t.claims(ctx)
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
