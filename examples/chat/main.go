// Chat is a group chat in the terminal, for the members of a community: whoever
// holds its key.
//
//	chat --new-key community.key                 # once; prints the public key
//	chat --connect ADDR --shard 128 --key-file community.key --name ana
//
// In place of an address it takes the record of any node (--bootnode), the name of a
// list (--dns-tree) or of a network (--network), and finds its peers from there. While
// nobody hears what is said it tells why.
//
// With --light it doesn't relay for others: service nodes bring what is said and
// publish what it says. Nothing else is different.
//
// In a terminal it draws a screen. With stdin or stdout piped, every line in is a
// message and every message is a line out: name, colon, text.
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
	defer stop()
	err := run(ctx, os.Args[1:])
	var option *waku.OptionError
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		usage(os.Stdout)
	case errors.Is(err, errUsage), errors.As(err, &option):
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	set, err := parse(args)
	if err != nil {
		return err
	}
	if set.newKey != "" {
		return newKey(set, os.Stdout, os.Stderr)
	}
	room, err := enter(ctx, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, room.leave()) }()
	if term.IsTerminal(os.Stdin.Fd()) && term.IsTerminal(os.Stdout.Fd()) {
		return screen(ctx, room)
	}
	return lines(ctx, room, os.Stdin, os.Stdout, notices{os.Stderr}, set.stay)
}

// notices are what isn't chat, when piped.
type notices struct{ w io.Writer }

func (n notices) say(format string, args ...any) {
	fmt.Fprintf(n.w, "chat: "+format+"\n", args...)
}
