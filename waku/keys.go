package waku

import (
	"errors"
	"fmt"
	"time"

	dosguard "github.com/status-im/shoal/rln-free-dos"
)

var errNilKey = errors.New("waku: the key is nil")

// AddKey lets messages pass that are signed by key and timestamped from from on
// and before until; zero times are unbounded. A key that is known already gets
// these bounds.
func (m *Membership) AddKey(key *dosguard.PublicKey, from, until time.Time) error {
	if key == nil {
		return errNilKey
	}
	return m.changeKeys(func(m *Membership) error {
		return m.shard.addKey(CommunityKey{Key: key, From: from, Until: until})
	})
}

// ExpireKey ends a key's time at the given moment.
func (m *Membership) ExpireKey(key *dosguard.PublicKey, at time.Time) error {
	if key == nil {
		return errNilKey
	}
	return m.changeKeys(func(m *Membership) error {
		if !m.shard.keys.Expire(key, at) {
			return m.shard.unknownKey(key)
		}
		delete(m.shard.expired, key.Hex())
		if !hasKey(m.shard.keys.All(), key) { // it would have ended before it began
			m.shard.node.emit(Event{Kind: KeyExpired, Shard: m.shard.shard, Key: key.Hex()})
		}
		return nil
	})
}

// RemoveKey makes a key unknown: what it signed doesn't pass any more, whenever
// that was. Without any key left nothing passes.
func (m *Membership) RemoveKey(key *dosguard.PublicKey) error {
	if key == nil {
		return errNilKey
	}
	return m.changeKeys(func(m *Membership) error {
		if !m.shard.keys.Remove(key) {
			return m.shard.unknownKey(key)
		}
		if !m.shard.expired[key.Hex()] {
			m.shard.node.emit(Event{Kind: KeyExpired, Shard: m.shard.shard, Key: key.Hex()})
		}
		delete(m.shard.expired, key.Hex())
		return nil
	})
}

// SetSigner changes the key that Send signs with. Its public half must be among
// the shard's keys. Nil: don't send any more.
func (m *Membership) SetSigner(key *dosguard.PrivateKey) error {
	return m.changeKeys(func(m *Membership) error {
		if key != nil && !hasKey(m.shard.keys.All(), key.PublicKey()) {
			return m.shard.unknownKey(key.PublicKey())
		}
		m.signing.Lock()
		defer m.signing.Unlock()
		m.signer = key
		return nil
	})
}

// Rotate replaces the community's key without a gap: this membership, and every
// other one of this node's on the shard that signs, signs with key from now on;
// its public half counts, and every other key counts for overlap longer. Members
// who don't know the new key refuse what it signs, so let them AddKey it first.
func (m *Membership) Rotate(key *dosguard.PrivateKey, overlap time.Duration) error {
	switch {
	case key == nil:
		return errNilKey
	case overlap < 0:
		return fmt.Errorf("waku: Rotate: overlap is %v, want zero or more", overlap)
	}
	return m.changeKeys(func(m *Membership) error {
		s := m.shard
		if err := s.addKey(CommunityKey{Key: key.PublicKey()}); err != nil {
			return err
		}
		for other := range s.members {
			other.signing.Lock()
			if other == m || other.signer != nil {
				other.signer = key
			}
			other.signing.Unlock()
		}
		// All that was signed with an old key is stamped before this.
		end := s.node.stamp().Add(overlap)
		for _, k := range s.keys.All() {
			if !k.Key.Equal(key.PublicKey()) && (k.Until.IsZero() || k.Until.After(end)) {
				s.keys.Expire(k.Key, end)
			}
		}
		return nil
	})
}

// Keys are the shard's keys, past and future ones included, in no order.
func (m *Membership) Keys() []CommunityKey {
	var keys []CommunityKey
	for _, k := range m.shard.keys.All() {
		keys = append(keys, CommunityKey{Key: k.Key, From: k.From, Until: k.Until})
	}
	return keys
}

// changeKeys changes keys on all of the community's shards.
func (m *Membership) changeKeys(f func(*Membership) error) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.everywhere(func(m *Membership) error {
		return m.shard.changeKeys(func() error { return f(m) })
	})
}

func (s *shard) unknownKey(key *dosguard.PublicKey) error {
	return fmt.Errorf("waku: shard %s doesn't know key %s: call AddKey first", s.shard, key)
}
