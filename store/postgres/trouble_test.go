package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/pgtest"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
	"github.com/status-im/shoal/store/postgres"
)

// refuse has the database refuse messages with an SQLSTATE, where a condition
// holds for the row r.
func refuse(t testing.TB, url, state, condition string) {
	pgtest.Exec(t, url, fmt.Sprintf(`CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ DECLARE r shoal_messages; BEGIN r := NEW; IF %s THEN RAISE EXCEPTION 'no' USING ERRCODE = '%s'; END IF; RETURN NEW; END $$`,
		condition, state))
	pgtest.Exec(t, url, `CREATE TRIGGER refuse BEFORE INSERT ON shoal_messages FOR EACH ROW EXECUTE FUNCTION refuse()`)
}

func accept(t testing.TB, url string) { pgtest.Exec(t, url, `DROP TRIGGER refuse ON shoal_messages`) }

// eventually waits for what another goroutine brings about without telling.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, 5*time.Millisecond, what)
}

// A database without room is no outage: it answers, and takes what waits when it
// has room again.
func TestDatabaseFull(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a := open(t, url, postgres.Config{})
	before := entries(5, 100)
	require.NoError(t, a.Put(t.Context(), before))
	require.NoError(t, a.Flush(t.Context()))
	refuse(t, url, "53100", "true")
	list := entries(20, 100)
	require.NoError(t, a.Put(t.Context(), list))
	eventually(t, "spooling", func() bool { return a.Condition().State == store.Spooling })
	require.ErrorContains(t, a.Condition().Err, "53100")
	require.EqualValues(t, len(list), a.Condition().Pending)
	require.Len(t, walk(t, store.Query{}, of(a)), len(before), "it can be read")
	accept(t, url)
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	require.Equal(t, store.Ready, a.Condition().State)
	requireHeld(t, a, hashes(list))
	require.Zero(t, a.Unstorable())
}

// What the database refuses for its own sake doesn't keep the rest waiting.
func TestPoison(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a := open(t, url, postgres.Config{})
	list := entries(300, 100)
	poison := entry(time.Now(), 777)
	refuse(t, url, "22P02", "r.size > 777")
	require.NoError(t, a.Put(t.Context(), append([]store.Entry{poison}, list...)))
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	requireHeld(t, a, hashes(list))
	require.Len(t, walk(t, store.Query{Limit: 100}, of(a)), len(list))
	require.EqualValues(t, 1, a.Unstorable())
	require.Equal(t, store.Ready, a.Condition().State)
}

// Any content topic can be kept and asked for: with zero bytes, or longer than an
// index allows.
func TestOddTopics(t *testing.T) {
	a := open(t, pgtest.Shared(t).Database(t), postgres.Config{})
	long := make([]byte, 100_000)
	for i := range long {
		long[i] = 'a' + byte(i%26)
	}
	topics := []string{"\x00", "a\x00b", "é", string(long), string(long[1:]), string(long[:200]), string(long[:201])}
	var list []store.Entry
	for i, topic := range topics {
		list = append(list, store.NewEntry(shard, &message.Message{Payload: []byte{1}, ContentTopic: topic, Timestamp: time.Now().UnixNano() + int64(i)}))
	}
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.Flush(t.Context()))
	for i, topic := range topics {
		got := walk(t, store.Query{Shard: &shard, ContentTopics: []string{topic}}, of(a))
		require.Equal(t, hashes(list[i:i+1]), hashes(got))
		require.Equal(t, topic, got[0].Message.ContentTopic)
	}
	require.Equal(t, hashes(list), hashes(walk(t, store.Query{Shard: &shard, ContentTopics: topics}, of(a))))
}

// What was changed in the database is never served as what it was.
func TestDamagedRow(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a := open(t, url, postgres.Config{})
	list := entries(6, 100)
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.Flush(t.Context()))
	pgtest.Exec(t, url, `UPDATE shoal_messages SET message = set_byte(message, 5, get_byte(message, 5) # 1) WHERE hash = $1`, list[2].Hash[:])
	pgtest.Exec(t, url, `UPDATE shoal_messages SET message = '\xff' WHERE hash = $1`, list[4].Hash[:])
	want := []store.Entry{list[0], list[1], list[3], list[5]}
	require.Equal(t, hashes(want), hashes(walk(t, store.Query{Limit: 1}, of(a))))
	require.Positive(t, a.Damaged())
}

// Connections that the server ends one by one are no outage.
func TestConnectionsEnded(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a := open(t, url, postgres.Config{Logger: logger(t)})
	list := entries(60, 100)
	for _, e := range list {
		require.NoError(t, a.Put(t.Context(), []store.Entry{e}))
		pgtest.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.3`)
		_, err := a.Query(t.Context(), store.Query{})
		require.NoError(t, err)
	}
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	requireHeld(t, a, hashes(list))
}

// Tables that somebody drops are made again, and what comes then is kept.
func TestTablesDropped(t *testing.T) {
	url := pgtest.Shared(t).Database(t)
	a := open(t, url, postgres.Config{Logger: logger(t)})
	require.NoError(t, a.Put(t.Context(), entries(3, 100)))
	require.NoError(t, a.Flush(t.Context()))
	pgtest.Exec(t, url, `DROP SCHEMA public CASCADE; CREATE SCHEMA public`)
	list := entries(4, 100)
	require.NoError(t, a.Put(t.Context(), list))
	require.NoError(t, a.Flush(patient(t, time.Minute)))
	require.Equal(t, hashes(list), hashes(walk(t, store.Query{}, of(a))))
}
