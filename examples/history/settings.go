package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

// errUsage marks errors of whoever typed the command.
var errUsage = errors.New("usage")

type usageError struct{ text string }

func (e *usageError) Error() string        { return e.text }
func (e *usageError) Is(target error) bool { return target == errUsage }

func wrong(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// settings are the flags.
type settings struct {
	connect   []string
	shard     sharding.Shard
	publicKey *dosguard.PublicKey // nil: the shard has none
	topics    []string
	since     time.Duration // 0: from the beginning
	limit     int           // 0: none
	follow    bool
	backward  bool
}

func flags(s *settings) *flag.FlagSet {
	*s = settings{shard: sharding.Shard{Cluster: sharding.StatusCluster, Index: 128}}
	f := flag.NewFlagSet("history", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("connect", "`address` of a node with a store, ending in /p2p/<peer id>; with several, one\nstands in for another", func(text string) error {
		if _, err := peer.AddrInfoFromString(text); err != nil {
			return fmt.Errorf("not a node's address, such as /ip4/203.0.113.7/tcp/30303/p2p/16Uiu2…: %w", err)
		}
		s.connect = append(s.connect, text)
		return nil
	})
	f.Func("shard", "`number` of the community's shard, or cluster/number (default 128)", func(text string) error {
		if !strings.Contains(text, "/") {
			text = fmt.Sprintf("%d/%s", sharding.StatusCluster, text)
		}
		shard, err := sharding.ParseShard(text)
		if err != nil {
			return fmt.Errorf("a shard is a number from 0 to %d, or cluster/number", sharding.MaxIndex)
		}
		s.shard = shard
		return nil
	})
	f.Func("public-key", "the community's public `key` in hex; without it, anybody may have written what you read", func(text string) (err error) {
		if s.publicKey, err = dosguard.ParsePublicKey(text); err != nil {
			return fmt.Errorf("not a public key (33 or 65 bytes in hex): %w", err)
		}
		return nil
	})
	f.Func("topic", "content `topic` to read, may be repeated (default: all)", func(text string) error {
		if _, err := sharding.ParseContentTopic(text); err != nil {
			return errors.New("want /application/version/name/encoding, such as /shoal-chat/1/lobby/json")
		}
		s.topics = append(s.topics, text)
		return nil
	})
	f.Func("since", "how far to go back: a `time` such as 90m, 24h or 7d (default: as far as there is any)", func(text string) (err error) {
		s.since, err = parseSince(text)
		return err
	})
	f.Func("limit", "end after a `number` of messages", func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return errors.New("want a number of 1 or more")
		}
		s.limit = n
		return nil
	})
	f.BoolVar(&s.follow, "follow", false, "go on with what is said now")
	f.BoolVar(&s.backward, "backward", false, "the newest first")
	return f
}

// parseSince reads a duration, of days too.
func parseSince(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n > 100_000 {
			err = errors.New("too long ago")
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return 0, errors.New("want a time such as 90m, 24h or 7d")
	}
	return d, nil
}

func parse(args []string) (*settings, error) {
	var s settings
	f := flags(&s)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, wrong("%s (history --help lists the flags)", strings.Replace(err.Error(), "for flag -", "for --", 1))
	case f.NArg() > 0:
		return nil, wrong("unexpected argument %q: settings are flags (history --help lists them)", f.Arg(0))
	case len(s.connect) == 0:
		return nil, wrong("--connect is missing: the address of a node with a store")
	case s.follow && s.backward:
		return nil, wrong("--follow and --backward contradict each other: one ends with the newest, one begins with it")
	}
	return &s, nil
}

func usage(w io.Writer) {
	var s settings
	fmt.Fprintln(w, "history reads back what was said in a community.")
	fmt.Fprintln(w)
	flags(&s).VisitAll(func(one *flag.Flag) {
		name, text := flag.UnquoteUsage(one)
		fmt.Fprintf(w, "  --%s\n        %s\n", strings.TrimSpace(one.Name+" "+name), strings.ReplaceAll(text, "\n", "\n        "))
	})
}
