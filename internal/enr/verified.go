package enr

import gethenr "github.com/ethereum/go-ethereum/p2p/enr"

// Verified reads a record whose signature the caller has just made or found
// good, by the identity scheme "v4": that isn't done a second time, since
// nothing about a record costs more. The error is ErrMalformed or ErrKey.
func Verified(r *gethenr.Record) (*Record, error) { return newRecord(r) }
