package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/sqlite"
)

// A file of its own, in which messages stay for 30 days and never take more than
// 10 GB.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "shoal")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	archive, err := sqlite.Open(ctx, filepath.Join(dir, "archive.db"), sqlite.Config{
		Policy: store.Policy{Total: store.Retention{MaxAge: 30 * 24 * time.Hour, MaxBytes: 8 << 30}},
	})
	if err != nil {
		panic(err)
	}
	defer archive.Close()

	shard := sharding.Shard{Cluster: 16, Index: 32}
	entry := store.NewEntry(shard, &message.Message{
		Payload: []byte("hello"), ContentTopic: "/app/1/chat/proto", Timestamp: time.Now().UnixNano(),
	})
	if err := archive.Put(ctx, []store.Entry{entry}); err != nil {
		panic(err)
	}
	page, err := archive.Query(ctx, store.Query{Shard: &shard, ContentTopics: []string{"/app/1/chat/proto"}})
	if err != nil {
		panic(err)
	}
	for _, e := range page.Entries {
		fmt.Printf("%s on %s\n", e.Message.Payload, e.Shard)
	}
	// Output: hello on 16/32
}

// The application's own database, whichever driver opened it.
func ExampleNew() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:app?mode=memory&cache=shared")
	if err != nil {
		panic(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	archive, err := sqlite.New(ctx, db, sqlite.Config{})
	if err != nil {
		panic(err)
	}
	defer archive.Close() // db stays open

	stats, err := archive.Stats(ctx)
	fmt.Println(stats.Messages, err)
	// Output: 0 <nil>
}
