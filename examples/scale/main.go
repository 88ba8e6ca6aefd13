// Scale runs a shard of thousands of members on a simulated network, each of them the
// SDK's own relay with a community's validator, and says what it costs and how fast
// messages are.
//
//	scale --members 1000 --profile classic --json classic.json
//
// Time is virtual and runs as fast as the machine allows. Each run ends with a table on
// stdout; --json keeps its numbers. scale report makes one page of any number of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/libp2p/go-libp2p/gologshim"

	"github.com/status-im/shoal/internal/scale"
	"github.com/status-im/shoal/internal/simnet"
)

func main() {
	gologshim.SetDefaultHandler(slog.DiscardHandler) // libp2p would write its own log to stderr
	debug.SetGCPercent(200)
	if len(os.Args) > 1 && os.Args[1] == "report" {
		exit(report(os.Args[2:]))
	}
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		usage(os.Stdout)
		return
	}
	if err != nil {
		exit(err)
	}
	stop, err := s.profile.start()
	if err != nil {
		exit(err)
	}
	simnet.Main(func(wall func() time.Duration) int {
		s.cfg.Wall = wall
		s.cfg.Progress = showProgress(os.Stderr)
		r, _, err := scale.Begin(context.Background(), s.cfg)
		stop()
		if err == nil {
			printResult(os.Stdout, r)
			err = s.keep(r)
		}
		return code(err)
	})
}

func exit(err error) { os.Exit(code(err)) }

func code(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "scale:", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}
