package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// errUsage marks errors of whoever typed the command.
var errUsage = errors.New("usage")

type usageError struct{ text string }

func (e *usageError) Error() string        { return e.text }
func (e *usageError) Is(target error) bool { return target == errUsage }

func wrong(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

const defaultTopic = "/shoal-chat/1/lobby/json"

// settings are the flags.
type settings struct {
	shard   sharding.Shard
	topic   string
	name    string
	key     *dosguard.PrivateKey // nil with open
	keyFile string
	open    bool
	light   bool
	nat     bool
	newKey  string
	connect []string
	listen  []string
	// listenGiven is whether the flag was given.
	listenGiven bool
	stay        bool
	finding     finding
}

// flags declares the flags. What depends on two of them is judged in parse.
func flags(s *settings) *flag.FlagSet {
	*s = settings{
		shard:   sharding.Shard{Cluster: sharding.StatusCluster, Index: 128},
		listen:  []string{"/ip4/127.0.0.1/tcp/0"},
		finding: finding{network: waku.Local},
	}
	f := flag.NewFlagSet("chat", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("connect", "`address` of a node of the community, ending in /p2p/<peer id>; may be repeated", func(text string) error {
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
	f.StringVar(&s.keyFile, "key-file", "", "`file` with the community's private key, 32 bytes in hex")
	f.BoolVar(&s.open, "open", false, "the shard has no key: anybody may write")
	f.BoolVar(&s.light, "light", false, "don't relay for others: service nodes bring and take the messages")
	f.BoolVar(&s.nat, "nat", false, "this machine may be behind a home router: find out, and let the others in all the same")
	f.Func("name", "`name` that the others see", func(text string) error {
		name := clean(text, maxName)
		if name == "" || name != strings.TrimSpace(text) {
			return fmt.Errorf("want 1 to %d printable characters", maxName)
		}
		s.name = name
		return nil
	})
	f.Func("topic", "content `topic`: the room (default "+defaultTopic+")", func(text string) error {
		topic, err := sharding.ParseContentTopic(text)
		if err != nil || !strings.HasPrefix(text, "/") || strings.Count(text, "/") != 4 {
			return errors.New("want /application/version/room/encoding, such as " + defaultTopic)
		}
		s.topic = topic.String()
		return nil
	})
	s.finding.flags(f)
	f.Func("listen", "`multiaddr` to listen on, may be repeated; \"\" for none (default /ip4/127.0.0.1/tcp/0, or\n/ip4/0.0.0.0/tcp/0 on a network of the internet)", func(text string) error {
		if !s.listenGiven {
			s.listen, s.listenGiven = nil, true
		}
		if text == "" {
			return nil
		}
		if _, err := multiaddr.NewMultiaddr(text); err != nil {
			return fmt.Errorf("not a multiaddr, such as /ip4/127.0.0.1/tcp/0: %w", err)
		}
		s.listen = append(s.listen, text)
		return nil
	})
	f.StringVar(&s.newKey, "new-key", "", "make a community's key in this `file`, print its public half and end")
	f.BoolVar(&s.stay, "stay", false, "when piped, stay after the end of the input")
	s.topic = defaultTopic
	return f
}

func parse(args []string) (*settings, error) {
	var s settings
	f := flags(&s)
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, wrong("%s (chat --help lists the flags)", strings.Replace(err.Error(), "for flag -", "for --", 1))
	}
	switch {
	case f.NArg() > 0:
		return nil, wrong("unexpected argument %s: settings are flags (chat --help lists them)", strconv.Quote(f.Arg(0)))
	case s.newKey != "":
		return &s, nil
	case s.name == "":
		return nil, wrong("--name is missing: how shall the others call you?")
	case s.keyFile == "" && !s.open:
		return nil, wrong("--key-file is missing: members sign with the community's key; for a shard without one say --open")
	case s.keyFile != "" && s.open:
		return nil, wrong("--key-file and --open contradict each other: a shard either has a key or has none")
	case s.light && len(s.connect) == 0 && !s.finding.looks():
		return nil, wrong("--light needs --connect, or a way to find service nodes, such as --bootnode: who doesn't relay hears and speaks through them")
	case s.nat && len(s.listen) == 0:
		return nil, wrong("--nat and --listen \"\" contradict each other: who doesn't listen can't let anybody in")
	case len(s.connect) == 0 && len(s.listen) == 0 && !s.finding.looks():
		return nil, wrong("with neither --connect nor --listen nobody could be met: give one of them, or --bootnode")
	}
	if err := s.finding.settle(&s); err != nil {
		return nil, err
	}
	if s.open {
		return &s, nil
	}
	text, err := os.ReadFile(s.keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, wrong("--key-file %s: no such file; a member can give it to you, or --new-key makes one for a new community", s.keyFile)
	}
	if err != nil {
		return nil, wrong("--key-file: %v", err)
	}
	if s.key, err = dosguard.ParsePrivateKey(strings.TrimSpace(string(text))); err != nil {
		return nil, wrong("--key-file %s: want 32 bytes in hex: %v", s.keyFile, err)
	}
	return &s, nil
}

// newKey makes a community's key. The public half goes alone to stdout.
func newKey(s *settings, stdout, hints io.Writer) error {
	key, err := dosguard.GenerateKey()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.newKey, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return wrong("--new-key %s: the file exists; a key isn't overwritten, name another file", s.newKey)
	case errors.Is(err, fs.ErrNotExist):
		return wrong("--new-key %s: the directory doesn't exist; make it first", s.newKey)
	case err != nil:
		return wrong("--new-key: %v", err)
	}
	_, err = fmt.Fprintln(f, key.Hex())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("--new-key: %w", err)
	}
	public := hex.EncodeToString(key.PublicKey().Bytes())
	fmt.Fprintf(hints, "The public key goes to whoever runs the community's node:\n"+
		"  servicenode --shards %[1]d --protected-shard %[1]d=%[2]s\n"+
		"The file goes to the members, by a way you trust:\n"+
		"  chat --shard %[1]d --key-file %[3]s --connect ADDRESS --name NAME\n", s.shard.Index, public, s.newKey)
	fmt.Fprintln(stdout, public)
	return nil
}

func usage(w io.Writer) {
	var s settings
	fmt.Fprintln(w, "chat is a group chat for the members of a community.")
	fmt.Fprintln(w)
	flags(&s).VisitAll(func(one *flag.Flag) {
		name, text := flag.UnquoteUsage(one)
		fmt.Fprintf(w, "  --%s %s\n        %s\n", one.Name, name, strings.ReplaceAll(text, "\n", "\n        "))
	})
}
