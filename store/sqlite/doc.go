// Package sqlite keeps a store node's messages in SQLite: a [store.Archive] in one
// file, or in a database that the application has already.
//
// [Open] takes a path, [New] a *sql.DB. The rest is [store.Archive]. The driver is
// modernc.org/sqlite, in Go without C; it registers itself as "sqlite", and so
// stands beside the drivers named "sqlite3" that an application may link.
//
// # Durability
//
// When [Archive.Put] returns nil, its messages are in the log (SQLite's
// write-ahead log), which fsync has taken to the disk. The end of the process
// takes nothing away at any moment, nor does the end of the machine if the disk
// keeps what it has synced. Callers that put at the same time share a
// transaction and its fsync. [Archive.Flush] has nothing to wait for.
//
// A full disk is an error of Put, a [*store.FullError], and a state, until a Put
// succeeds again. What was kept stays and is served. Prune works on a full disk
// as well: 8 MiB are kept back for it in a file beside the archive, without which
// nothing is put.
//
// # Damage
//
// Each message has a checksum and its hash, and both are compared whenever it is
// read. Where it is filed has a checksum of its own, which is all that is read for a
// question that asks for hashes alone. A small file (32 MiB) is
// examined in full before it is used; a larger one is, while it is used, after
// a process that didn't close it and once a week. A file that is damaged, by
// what SQLite or these say, is set aside under another name, and a new one takes
// its place without the process noticing more than an error that is
// [store.ErrUnavailable]. What can still be read and verified is copied over in
// the background. The marks of the shards are back at zero then, which tells the
// node to fetch from other stores what is missing. [Archive.Condition] says
// [store.Damaged] until the marks have passed the time of the damage. Files set
// aside stay until somebody deletes them.
//
// If the log is removed while no process has the archive open, and the last one
// didn't close it, the marks go back to the time when the file last took over
// the log, and the condition is Damaged as well. A log that was cut off is
// complete up to there, marks included: they never say more than is kept.
//
// # Sizes
//
// A message takes its encoded size, about 150 bytes for its hash and three indexes,
// and what a page of 16 KiB can't use: with a payload of 2 KiB, 2.4 KB in all.
// Expired messages leave some 50 bytes behind for one to two days, by which cursors
// that name them keep their place. The log takes up to 128 MiB beside that under
// load, and the memory for pages is 32 MiB for the writer and 8 MiB for each
// reader at most.
//
// # The application's database
//
// New creates tables whose names begin with shoal_, uses nothing but plain SQL
// with ? for arguments, and changes no setting. It makes checkpoints, so that
// few are left for SQLite to make in the midst of a Put. How durable messages are,
// and whether questions wait for writes, is the application's to say; it should set
//
//	PRAGMA journal_mode = WAL      -- questions don't wait
//	PRAGMA synchronous = FULL      -- Put means what it says above
//	PRAGMA busy_timeout = 5000     -- other writers may hold the lock so long
//	PRAGMA page_size = 16384       -- before the first table; a page of 4 KiB has room for one message of 2 KiB
//
// and leave transactions deferred, which is the default. A pool with a single
// connection works, one thing after another. Damage is noticed and reported and
// the marks put back, but the file is the application's to mend: a message that
// is not what was filed is deleted, and everything else that can't be read is an
// error that is [store.ErrUnavailable].
package sqlite
