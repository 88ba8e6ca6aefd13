package rendezvous

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/wire"
)

// Snapshots keeps what a [Point] knows beyond a restart, as a whole: some 10 MB for a
// full point as a rule, and 40 MB at most.
type Snapshots interface {
	// Load returns what was saved last. Without it there is none, and no error.
	Load() ([]byte, error)
	// Save replaces it, all or nothing. b isn't kept.
	Save(b []byte) error
}

// SnapshotFile returns snapshots in a file, which is replaced whole. Beside it there
// may be one of the same name and ".new".
func SnapshotFile(path string) Snapshots { return snapshotFile(path) }

type snapshotFile string

// Load implements Snapshots.
func (f snapshotFile) Load() ([]byte, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Save implements Snapshots.
func (f snapshotFile) Save(b []byte) (err error) {
	path := string(f) + ".new"
	w, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	err = errors.Join(err, w.Sync(), w.Close())
	if err != nil {
		return err
	}
	return os.Rename(path, string(f))
}

// The fields of a snapshot's entries. It begins with its own hash.
const (
	snapEntry protowire.Number = 1

	snapPeer    protowire.Number = 1
	snapNS      protowire.Number = 2
	snapAddr    protowire.Number = 3
	snapRecord  protowire.Number = 4
	snapExpires protowire.Number = 5 // Unix seconds
)

// ErrSnapshot: a snapshot isn't as it was saved.
var ErrSnapshot = errors.New("rendezvous: damaged snapshot")

// encodeSnapshot writes registrations.
func encodeSnapshot(regs []registration) []byte {
	b := make([]byte, sha256.Size)
	var e []byte
	for _, r := range regs {
		e = wire.AppendBytes(e[:0], snapPeer, []byte(r.peer))
		e = wire.AppendBytes(e, snapNS, []byte(r.ns))
		e = wire.AppendBytes(e, snapAddr, []byte(r.addr))
		e = wire.AppendBytes(e, snapRecord, r.record)
		e = wire.AppendVarint(e, snapExpires, uint64(max(r.expires.Unix(), 0)))
		b = wire.AppendBytes(b, snapEntry, e)
	}
	sum := sha256.Sum256(b[sha256.Size:])
	copy(b, sum[:])
	return b
}

// decodeSnapshot calls put for each registration, in their order.
func decodeSnapshot(b []byte, put func(r registration)) error {
	if len(b) < sha256.Size {
		return ErrSnapshot
	}
	if sum := sha256.Sum256(b[sha256.Size:]); !bytes.Equal(sum[:], b[:sha256.Size]) {
		return ErrSnapshot
	}
	err := wire.Fields(b[sha256.Size:], func(f wire.Field) error {
		if f.Num != snapEntry {
			return nil
		}
		raw, err := f.Raw("entry")
		if err != nil {
			return err
		}
		r, err := decodeSaved(raw)
		if err != nil {
			return err
		}
		put(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return nil
}

func decodeSaved(b []byte) (r registration, err error) {
	err = wire.Fields(b, func(f wire.Field) (err error) {
		var v []byte
		switch f.Num {
		case snapPeer:
			v, err = f.Raw("peer")
			r.peer = peer.ID(v)
		case snapNS:
			v, err = f.Raw("ns")
			r.ns = string(v)
		case snapAddr:
			v, err = f.Raw("addr")
			r.addr = string(v)
		case snapRecord:
			v, err = f.Raw("record")
			r.record = bytes.Clone(v)
		case snapExpires:
			var at uint64
			at, err = f.Varint("expires")
			r.expires = time.Unix(int64(min(at, 1<<40)), 0)
		}
		return err
	})
	return r, err
}

// load takes over what was saved: what is served still, for as long as it would have
// lived. What it says was verified when it came.
func (p *Point) load() {
	b, err := p.cfg.Snapshots.Load()
	now := time.Now()
	if err == nil && b != nil {
		err = decodeSnapshot(b, func(r registration) {
			ttl := min(r.expires.Sub(now), p.cfg.MaxTTL)
			if ttl <= 0 || r.peer == "" || len(r.record) == 0 || len(r.record) > maxRecord ||
				checkNamespace(r.ns) != nil || !p.cfg.Serves(r.ns) {
				return
			}
			p.table.put(r.peer, r.ns, r.addr, r.record, now.Add(ttl))
		})
	}
	if err != nil {
		p.snapshotFailed(err)
	}
}

func (p *Point) saveEvery(ctx context.Context) {
	tick := time.NewTicker(p.cfg.SaveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.save()
		case <-ctx.Done():
			return
		}
	}
}

// save writes a snapshot if there was a change.
func (p *Point) save() error {
	p.mu.Lock()
	p.expire(time.Now())
	if !p.dirty {
		p.mu.Unlock()
		return nil
	}
	p.dirty = false
	regs := make([]registration, 0, p.table.all.live)
	for _, s := range p.table.all.order {
		if s.reg != nil {
			regs = append(regs, *s.reg)
		}
	}
	p.mu.Unlock()
	if err := p.cfg.Snapshots.Save(encodeSnapshot(regs)); err != nil {
		p.mu.Lock()
		p.dirty = true
		p.mu.Unlock()
		p.snapshotFailed(err)
		return err
	}
	p.saved.Add(1)
	return nil
}

func (p *Point) snapshotFailed(err error) {
	p.saveFail.Add(1)
	if p.cfg.OnFailure != nil {
		p.cfg.OnFailure("", err)
	}
}
