package postgres_test

import (
	"context"
	"fmt"
	"time"

	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// A store node keeps thirty days in a database that it shares with others.
func Example() {
	ctx := context.Background()
	archive, err := postgres.Open(ctx, "postgres://shoal:secret@db.example/shoal?search_path=shoal", postgres.Config{
		SpoolDir: "/var/lib/shoal/spool",
		Policy:   store.Policy{Default: store.Retention{MaxAge: 30 * 24 * time.Hour}},
	})
	if err != nil {
		fmt.Println(err) // it has to be set up otherwise; a database that is away is no error
		return
	}
	defer archive.Close()
	page, err := archive.Query(ctx, store.Query{Backward: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range page.Entries {
		fmt.Println(e.Hash, e.Message.ContentTopic)
	}
}
