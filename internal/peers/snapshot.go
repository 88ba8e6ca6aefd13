package peers

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/sharding"
)

// A snapshot is
//
//	"peers" version(1) count peer* crc32c(4)
//	peer: id reached services cluster shards record addresses
//
// with numbers as uvarints, strings as length ‖ bytes, lists as count ‖ items,
// reached in Unix seconds, 0 for those who came by themselves.
const (
	snapshotMagic = "peers\x01"
	maxSaved      = 256
	savedPerNet   = 4
	// Of those who came by themselves only a few are saved, who have stayed for a
	// while, and one of a network.
	maxVisitors  = 32
	visitorAfter = 5 * time.Minute
	// visitors is the teller of them.
	visitors = "visitors"
	// savedFor is how long a peer is worth remembering that isn't met again.
	savedFor = 30 * 24 * time.Hour
	// maxSnapshot bounds what Restore reads, in bytes: more than the most that
	// Snapshot writes.
	maxSnapshot = len(snapshotMagic) + 8 + maxSaved*(maxRecord+maxID+(maxAddrs+1)*(maxAddrBytes+2)+2*(sharding.MaxIndex+1)+64)
)

// ErrSnapshot means that the bytes given to Restore aren't a snapshot of this
// version, or are damaged.
var ErrSnapshot = errors.New("peers: not a snapshot, or a damaged one")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot returns the peers that proved good when this node dialled them, for a
// later [Manager.Restore]: those connected first, then those met last; no more than
// 256, nor four of one network. After them come 32 at most that came by themselves and
// have stayed for five minutes: a node that everybody dials has dialled nobody.
func (m *Manager) Snapshot(now time.Time) []byte {
	m.enter(now)
	defer m.mu.Unlock()
	var good []*entry
	for _, e := range m.all.items {
		if e.connected() && e.proven && !e.inbound {
			if e.reached = m.now; m.now.Sub(e.since) >= stableAfter {
				e.failures = 0
			}
		}
		if !e.reached.IsZero() && e.barred == notBarred && e.failures < maxFailures/2 && m.now.Sub(e.reached) < savedFor {
			good = append(good, e)
		}
	}
	good = append(good, m.visitors()...)
	slices.SortFunc(good, func(a, b *entry) int {
		return cmp.Or(b.reached.Compare(a.reached), cmp.Compare(a.failures, b.failures), a.since.Compare(b.since), cmp.Compare(a.id, b.id))
	})
	nets := map[place]int{}
	saved := good[:0]
	for _, e := range good {
		at := e.good
		if at == nil && len(e.addrs) > 0 {
			at = e.addrs[0]
		}
		if at == nil && len(e.says) > 0 {
			at = e.says[0]
		}
		if at == nil || !at.local && nets[at.net] >= savedPerNet {
			continue
		}
		nets[at.net]++
		if saved = append(saved, e); len(saved) == maxSaved {
			break
		}
	}
	b := binary.AppendUvarint([]byte(snapshotMagic), uint64(len(saved)))
	for _, e := range saved {
		b = e.appendTo(b)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// visitors are the peers that came by themselves, have stayed, and can perhaps be
// reached: those who were there first. mu is held.
func (m *Manager) visitors() (good []*entry) {
	for _, e := range m.conns.items {
		if e.inbound && e.proven && e.reached.IsZero() && e.barred == notBarred && len(e.says) > 0 && m.now.Sub(e.since) >= visitorAfter {
			good = append(good, e)
		}
	}
	slices.SortFunc(good, func(a, b *entry) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.id, b.id))
	})
	nets := map[place]bool{}
	good = slices.DeleteFunc(good, func(e *entry) bool {
		net, again := e.says[0].net, nets[e.says[0].net]
		nets[net] = true
		return again && !e.says[0].local
	})
	return good[:min(len(good), maxVisitors)]
}

func appendBytes[T ~string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (e *entry) appendTo(b []byte) []byte {
	b = appendBytes(b, e.id)
	b = binary.AppendUvarint(b, uint64(max(0, e.reached.Unix())))
	b = binary.AppendUvarint(b, uint64(e.services))
	b = binary.AppendUvarint(b, uint64(e.shards.Cluster()))
	b = binary.AppendUvarint(b, uint64(e.shards.Len()))
	for s := range e.shards.All() {
		b = binary.AppendUvarint(b, uint64(s.Index))
	}
	b = appendBytes(b, e.record)
	var addrs []ma.Multiaddr
	if e.reached.IsZero() && len(e.addrs) == 0 {
		for _, a := range e.says {
			addrs = append(addrs, a.ma)
		}
	}
	if e.good != nil {
		addrs = append(addrs, e.good.ma)
	}
	for _, a := range e.addrs {
		if e.good == nil || !e.good.ma.Equal(a.ma) {
			addrs = append(addrs, a.ma)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(addrs)))
	for _, a := range addrs {
		b = appendBytes(b, a.Bytes())
	}
	return b
}

// Restore takes note of the peers in a snapshot. Records are verified again, and
// left out if they aren't right. If the error, ErrSnapshot, isn't nil, nothing was
// taken note of.
func (m *Manager) Restore(now time.Time, snapshot []byte) error {
	saved, err := readSnapshot(snapshot)
	if err != nil {
		return err
	}
	m.enter(now)
	defer m.mu.Unlock()
	for i := range saved {
		s := &saved[i]
		visitor := s.reached.Unix() == 0
		if age := m.now.Sub(s.reached); age > savedFor && !visitor {
			continue
		}
		if visitor { // nobody has reached it yet: no more than hearsay
			s.Source, s.From = Exchange, visitors
		}
		if why := m.found(&s.Sighting); why != "" {
			m.refused[why]++
			continue
		}
		e := m.known[s.Info.ID]
		if e.reached.IsZero() && !visitor {
			e.reached = s.reached
			if e.reached.After(m.now) { // the clock was put back
				e.reached = m.now
			}
		}
		if !e.proven {
			e.carry(s.Shards)
			e.services = s.Services
		}
	}
	return nil
}

type savedPeer struct {
	Sighting
	reached time.Time
}

func readSnapshot(b []byte) ([]savedPeer, error) {
	if len(b) > maxSnapshot || len(b) < len(snapshotMagic)+4 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, ErrSnapshot
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, ErrSnapshot
	}
	r := reader{b: body[len(snapshotMagic):]}
	var out []savedPeer
	for n := r.number(maxSaved); n > 0; n-- {
		s, err := r.peer()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = ErrSnapshot
	}
	return out, r.err
}

// reader reads a snapshot; after an error it reads nothing.
type reader struct {
	b   []byte
	err error
}

func (r *reader) number(limit uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if r.err != nil || size <= 0 || n > limit {
		r.err, r.b = ErrSnapshot, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) bytes(limit int) []byte {
	n := r.number(uint64(limit))
	if n > uint64(len(r.b)) {
		r.err, r.b = ErrSnapshot, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) peer() (s savedPeer, err error) {
	id := peer.ID(r.bytes(maxID))
	s.reached = time.Unix(int64(r.number(1<<40)), 0)
	s.Services = Service(r.number(255))
	indices := make([]uint16, 0, 16)
	cluster := uint16(r.number(1<<16 - 1))
	for n := r.number(sharding.MaxIndex + 1); n > 0; n-- {
		indices = append(indices, uint16(r.number(sharding.MaxIndex)))
	}
	record := r.bytes(maxRecord)
	addrs := make([]ma.Multiaddr, 0, maxAddrs+1)
	for n := r.number(maxAddrs + 1); n > 0; n-- {
		a, err := ma.NewMultiaddrBytes(r.bytes(maxAddrBytes))
		if err != nil {
			return s, fmt.Errorf("%w: %v", ErrSnapshot, err)
		}
		addrs = append(addrs, a)
	}
	if r.err != nil {
		return s, r.err
	}
	if s.Shards, err = sharding.NewSet(cluster, indices...); err != nil {
		return s, fmt.Errorf("%w: %v", ErrSnapshot, err)
	}
	if _, err := peer.IDFromBytes([]byte(id)); err != nil {
		return s, fmt.Errorf("%w: %v", ErrSnapshot, err)
	}
	if rec, err := enr.Decode(record); err == nil && rec.PeerID() == id {
		s.Record, s.Seq = record, rec.Seq()
	}
	s.Info, s.Source = peer.AddrInfo{ID: id, Addrs: addrs}, Saved
	return s, nil
}
