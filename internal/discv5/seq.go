package discv5

import (
	"crypto/ecdsa"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/syndtr/goleveldb/leveldb"
)

// maxSeqWait is how far ahead of the clock, in milliseconds, a sequence number
// may be to be waited for.
const maxSeqWait = 50

// newLocalNode makes the library's idea of ourselves, whose first record will
// have a number of at least least. The node numbers its records from the
// clock's milliseconds, or from what its database says. That is in memory; only
// when the clock has gone back is there one on disk, which can be prepared.
// The cleanup closes and removes it.
func newLocalNode(key *ecdsa.PrivateKey, least uint64) (*enode.LocalNode, func(), error) {
	if least > math.MaxInt64 {
		return nil, nil, fmt.Errorf("%w: %d leaves nothing above it", ErrSeq, least)
	}
	db, err := enode.OpenDB("")
	if err != nil {
		return nil, nil, fmt.Errorf("discv5: %w", err)
	}
	node := enode.NewLocalNode(db, key)
	first := node.Seq() + 1
	if first < least && least-first <= maxSeqWait {
		time.Sleep(time.Duration(least-first) * time.Millisecond)
		node = enode.NewLocalNode(db, key)
		first = node.Seq() + 1
	}
	if first >= least {
		return node, db.Close, nil
	}
	db.Close()

	dir, err := os.MkdirTemp("", "discv5-*")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the clock is behind %d: %w", ErrSeq, least, err)
	}
	cleanup := func() { _ = os.RemoveAll(dir) }
	if err := prepareDB(dir, enode.PubkeyToIDV4(&key.PublicKey), least-1); err != nil {
		cleanup()
		return nil, nil, fmt.Errorf("%w: the clock is behind %d: %w", ErrSeq, least, err)
	}
	if db, err = enode.OpenDB(dir); err != nil {
		cleanup()
		return nil, nil, fmt.Errorf("%w: the clock is behind %d: %w", ErrSeq, least, err)
	}
	cleanup = func() { db.Close(); _ = os.RemoveAll(dir) }
	node = enode.NewLocalNode(db, key)
	if node.Seq() != least-1 { // the database's layout has changed
		cleanup()
		return nil, nil, fmt.Errorf("%w: the clock is behind %d", ErrSeq, least)
	}
	return node, cleanup, nil
}

// prepareDB makes a database that remembers seq as our last number.
func prepareDB(dir string, id enode.ID, seq uint64) error {
	db, err := enode.OpenDB(dir) // writes the version
	if err != nil {
		return err
	}
	db.Close()
	raw, err := leveldb.OpenFile(dir, nil)
	if err != nil {
		return err
	}
	defer raw.Close()
	key := append(append([]byte("local:"), id[:]...), ":seq"...)
	return raw.Put(key, binary.AppendUvarint(nil, seq), nil)
}
