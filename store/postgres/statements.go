package postgres

import "strings"

// The statements of a page. What they have in common:
//
//	$1 int4    shard; NULL: any
//	$2         content topics, or hashes in two forms, see below
//	$3 int8    the place to go on from: its timestamp
//	$4 bytea   and its hash
//	$5, $6     bounds of the timestamps, which also say which partitions matter
//	$7 int4    how many rows; one more than the page, to see whether there are more
//	$8 int8    the size at which a page ends
//
// The keys of the page are found first, in an index alone: the next few of each
// stream, merged. Only then are the messages read, whichever the order of the walk
// in that of time, in which they lie on the disk: a system reads ahead forwards.

// shape says which of the statements it is.
type shape struct {
	by       criterion
	backward bool
	data     bool
}

// criterion is what a question asks by.
type criterion uint8

const (
	byTime   criterion = iota // all of a shard, $2 is unused
	byTopic                   // $2 bytea[]: see topicKey
	byTopics                  // the same, if there are several, see untilFilled
	byHash                    // $2 bytea[]
	anyShard                  // all of all shards, $1 and $2 are unused
)

// statements are made once.
var statements = func() map[shape]string {
	m := make(map[shape]string)
	for _, by := range []criterion{byTime, byTopic, byTopics, byHash, anyShard} {
		for _, backward := range []bool{false, true} {
			for _, data := range []bool{false, true} {
				s := shape{by, backward, data}
				m[s] = s.statement()
			}
		}
	}
	return m
}()

const (
	streamKeys = `
	SELECT k.shard, k.ts, k.hash
	FROM {streams} AS s CROSS JOIN LATERAL (
		SELECT m.shard, m.ts, m.hash FROM shoal_messages m
		WHERE {match} AND (m.ts, m.hash) {beyond} ($3::int8, $4::bytea) AND m.ts >= $5::int8 AND m.ts < $6::int8{until}
		ORDER BY m.ts {order}, m.hash {order} LIMIT {each}) AS k
	ORDER BY k.ts {order}, k.hash {order} LIMIT $7::int4`

	// Where twice its share of the page, taken from each topic, fills the page, it
	// goes no further than that, and most topics needn't be followed for all of it.
	// Where it doesn't, this is NULL, which GREATEST and LEAST pass over.
	untilFilled = ` AND m.ts {bound} (SELECT ts FROM ({few}) AS few ORDER BY ts {order} LIMIT 1 OFFSET $7::int4 - 1))`
	twiceAShare = "2 * $7::int4 / cardinality($2::bytea[])"

	// Each partition of the map is gone through once for all hashes.
	hashPlaces = `
	SELECT DISTINCT t.shard, t.ts, uuid_send(t.head) || uuid_send(t.tail) AS hash
	FROM shoal_times t
	WHERE t.head = ANY (ARRAY(SELECT encode(substr(h, 1, 16), 'hex')::uuid FROM unnest($2::bytea[]) AS h))
		AND t.tail = ANY (ARRAY(SELECT encode(substr(h, 17, 16), 'hex')::uuid FROM unnest($2::bytea[]) AS h))
		AND ($1::int4 IS NULL OR t.shard = $1) AND t.ts >= $5::int8 AND t.ts < $6::int8
		AND (t.ts, uuid_send(t.head) || uuid_send(t.tail)) {beyond} ($3::int8, $4::bytea)`

	// What the map names may be gone.
	hashKeys = `
	SELECT m.shard, m.ts, m.hash
	FROM ({places}) AS k JOIN shoal_messages m ON m.shard = k.shard AND m.ts = k.ts AND m.hash = k.hash
	WHERE m.ts >= $5::int8 AND m.ts < $6::int8
	ORDER BY m.ts {order}, m.hash {order} LIMIT $7::int4`

	keysOnly = `
SELECT shard, ts, hash, NULL::bytea FROM ({keys}) AS k
WHERE $8::int8 > 0 ORDER BY ts {order}, hash {order}`

	withMessages = `
WITH k AS MATERIALIZED ({keys})
SELECT shard, ts, hash, CASE WHEN n = 1 OR n < $7::int4 AND reaches <= $8::int8 THEN message END
FROM (
	SELECT k.shard, k.ts, k.hash, m.message, row_number() OVER w AS n, sum(m.size) OVER w AS reaches
	FROM (SELECT * FROM k ORDER BY ts, hash) AS k
		JOIN shoal_messages m ON m.shard = k.shard AND m.ts = k.ts AND m.hash = k.hash
	WHERE m.ts >= $5::int8 AND m.ts < $6::int8
	WINDOW w AS (ORDER BY k.ts {order}, k.hash {order} ROWS UNBOUNDED PRECEDING)
) AS page WHERE n <= $7::int4 ORDER BY ts {order}, hash {order}`
)

func (s shape) statement() string {
	text, keys := keysOnly, streamKeys
	if s.data {
		text = withMessages
	}
	var streams, match, until string
	switch s.by {
	case byTime:
		streams, match = "(SELECT $1::int4 AS shard, $2::bytea[] AS unused)", "m.shard = s.shard"
	case byTopics:
		few := strings.NewReplacer("{until}", "", "{each}", twiceAShare).Replace(streamKeys)
		until = strings.ReplaceAll(untilFilled, "{few}", few)
		fallthrough
	case byTopic:
		streams, match = "unnest($2::bytea[])", "m.shard = $1::int4 AND m.topic = s"
	case anyShard:
		streams, match = "(SELECT shard, $1::int4, $2::bytea[] FROM shoal_shards)", "m.shard = s.shard"
	case byHash:
		keys = hashKeys
		if s.data {
			keys = hashPlaces
		}
	}
	order, beyond, bound := "ASC", ">", "<= LEAST($6::int8,"
	if s.backward {
		order, beyond, bound = "DESC", "<", ">= GREATEST($5::int8,"
	}
	text = strings.ReplaceAll(text, "{keys}", keys)
	text = strings.ReplaceAll(text, "{places}", hashPlaces)
	text = strings.NewReplacer("{until}", until, "{each}", "$7::int4").Replace(text)
	return strings.NewReplacer("{streams}", streams, "{match}", match,
		"{order}", order, "{beyond}", beyond, "{bound}", bound).Replace(text)
}
