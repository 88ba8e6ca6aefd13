package sqlite_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lent keeps a column's bytes without copying them.
type lent struct{ bytes []byte }

func (l *lent) Scan(from any) error {
	l.bytes = from.([]byte)
	return nil
}

// The driver gives the bytes of a column away: messages are kept without a copy.
func TestDriverGivesBytesAway(t *testing.T) {
	db := appDatabase(t)
	_, err := db.Exec(`CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB); INSERT INTO blobs (data)
		VALUES (zeroblob(3000)), (randomblob(3000)), (randomblob(3000)), (zeroblob(2000))`)
	require.NoError(t, err)
	read := func(rows *sql.Rows, err error) (all []lent) {
		require.NoError(t, err)
		for rows.Next() {
			var l lent
			require.NoError(t, rows.Scan(&l))
			all = append(all, l)
		}
		require.NoError(t, rows.Err())
		return all
	}
	first := read(db.Query(`SELECT data FROM blobs ORDER BY id`))
	copies := make([][]byte, len(first))
	for i, l := range first {
		copies[i] = append([]byte(nil), l.bytes...)
	}
	second := read(db.Query(`SELECT data FROM blobs ORDER BY id DESC`))
	for i, l := range first {
		assert.Equal(t, copies[i], l.bytes)
		assert.Equal(t, copies[i], second[len(second)-1-i].bytes)
	}
}
