package discv5

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"
	gethenr "github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"
)

// scheme is the identity scheme "v4" with a memory for records that were good:
// a lookup is told most of them a dozen times, and nothing it does costs more
// than a signature.
type scheme struct {
	mu      sync.Mutex
	good    *recent[[32]byte, enode.ID] // by the digest of the whole record
	refused atomic.Uint64
}

var errScheme = errors.New("discv5: identity scheme isn't v4")

func newScheme() *scheme { return &scheme{good: newRecent[[32]byte, enode.ID](repeatAfter, 2048)} }

// Verify implements enr.IdentityScheme.
func (s *scheme) Verify(r *gethenr.Record, sig []byte) error {
	if _, ok := s.known(r); ok {
		return nil
	}
	err := errScheme
	if r.IdentityScheme() == string(gethenr.IDv4) {
		err = enode.V4ID{}.Verify(r, sig)
	}
	if err != nil {
		s.refused.Add(1)
		return err
	}
	if digest, ok := digestOf(r); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.good.put(digest, enode.ID(enode.V4ID{}.NodeAddr(r)), time.Now())
	}
	return nil
}

// NodeAddr implements enr.IdentityScheme.
func (s *scheme) NodeAddr(r *gethenr.Record) []byte {
	if id, ok := s.known(r); ok {
		return id[:]
	}
	return enode.V4ID{}.NodeAddr(r)
}

func (s *scheme) known(r *gethenr.Record) (enode.ID, bool) {
	digest, ok := digestOf(r)
	if !ok {
		return enode.ID{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.good.get(digest, time.Now())
}

// digestOf is of everything in a record, its signature included.
func digestOf(r *gethenr.Record) ([32]byte, bool) {
	raw, err := rlp.EncodeToBytes(r)
	return sha256.Sum256(raw), err == nil
}
