package postgres_test

import (
	"testing"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
	"github.com/status-im/shoal/store/storetest"
)

// Each archive that is opened has a spool of its own, as each node has, and what
// is in it when it is closed is found by the next.
func TestConformance(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Place {
		url := pgtest.Shared(t).Database(t)
		spools := newSpools(t)
		return storetest.Place{
			Shared: true,
			Open: func(c storetest.Config) (store.Archive, error) {
				return spools.open(t, url, postgres.Config{Policy: c.Policy, Now: c.Now, PruneEvery: -1, ReadConns: 3})
			},
		}
	})
}
