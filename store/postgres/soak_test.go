//go:build soak

package postgres_test

import (
	"flag"
	"testing"
	"time"

	"github.com/status-im/shoal/internal/pgtest"
)

func TestSoakOutage(t *testing.T) {
	server := pgtest.Start(t, pgtest.Config{})
	for name := range outages {
		for _, away := range []time.Duration{5 * time.Second, time.Minute, 10 * time.Minute} {
			t.Run(name+" for "+away.String(), func(t *testing.T) {
				for _, o := range outage(t, server, name, away, 50, 500) {
					if o.slowest > time.Second {
						t.Errorf("%d per second: a query took %v", o.rate, o.slowest)
					}
					if o.drained > 2*away {
						t.Errorf("%d per second: drained after %v", o.rate, o.drained)
					}
				}
			})
		}
	}
}

func TestSoakKill(t *testing.T) {
	if slowest := kill(t, 200); slowest > 5*time.Second {
		t.Errorf("a start took %v", slowest)
	}
}

func TestSoakKillAmongNodes(t *testing.T) { killAmongNodes(t, 3, 40) }

func TestSoakPartitionTurns(t *testing.T) { partitionTurns(t, 10_000) }

func TestSoakFiveOpenedAtOnce(t *testing.T) { openedAtOnce(t, 5, 200) }

func TestSoakExpiredPartitions(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	before := checks.String()
	defer checks.Set(before)
	if err := checks.Set("1000000"); err != nil {
		t.Fatal(err)
	}
	TestExpiredPartitions(t)
}
