//go:build nat && linux

package natlab

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/status-im/shoal/internal/netspace"
)

// long is for the numbers of a report: all tries of a success rate, sleeps of their full
// length.
var long = flag.Bool("long", false, "the long form: hours instead of minutes")

// stories shows what happened in tests that pass, too.
var stories = flag.Bool("stories", false, "show what the programs write")

// dumps is for finding out what went wrong; it takes tcpdump.
var dumps = flag.String("dumps", "", "a `directory` for what goes through the routers, as files of pcap")

// cannot is the exit code where the lab can't be built. It is never a skip.
const cannot = 3

// programs is where the programs are that run in the lab.
var programs = flag.String("programs", "", "the `directory` of the programs; without it they are built")

func TestMain(m *testing.M) {
	for name, run := range map[string]func() error{crowdedAt: runCrowded, askAt: runAsker, idleAt: runIdle} {
		if os.Getenv(name) == "" {
			continue
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, "natlab:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if why := unable(); why != "" {
		fmt.Fprintln(os.Stderr, "natlab can't run here:", why)
		return cannot
	}
	if *programs == "" {
		dir, err := os.MkdirTemp("", "natlab")
		if err == nil {
			defer os.RemoveAll(dir)
			*programs = dir
			err = build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "natlab:", err)
			return 1
		}
	}
	return m.Run()
}

// build builds the programs.
func build(dir string) error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir, "../../examples/servicenode", "../../examples/holepunch")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// unable says what the lab lacks.
func unable() string {
	if _, err := exec.LookPath("nft"); err != nil {
		return "the program nft isn't installed (apt-get install nftables)"
	}
	return netspace.Unable()
}
