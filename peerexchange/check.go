package peerexchange

import (
	"errors"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/enr"
)

// decode reads a record and says what is wrong with it, "" if nothing is.
func decode(raw []byte) (r *enr.Record, wrong string) {
	r, err := enr.Decode(raw)
	switch {
	case err == nil:
		return r, ""
	case errors.Is(err, enr.ErrTooLarge):
		return nil, RefusedTooLarge
	case errors.Is(err, enr.ErrKey):
		return nil, RefusedKey
	case errors.Is(err, enr.ErrSignature):
		return nil, RefusedSignature
	}
	return nil, RefusedMalformed
}

// describe is who r is about, unless something is wrong with it.
func describe(r *enr.Record) (p Peer, wrong string) {
	p = Peer{Info: r.AddrInfo(), ENR: r.Bytes(), Seq: r.Seq(), Capabilities: Capabilities(r.Capabilities())}
	if len(p.Info.Addrs) == 0 {
		return p, RefusedNoAddress
	}
	shards, err := r.Shards()
	if err != nil {
		return p, RefusedShards
	}
	p.Shards = slices.Collect(shards.All())
	return p, ""
}

// read is decode and describe.
func read(raw []byte) (p Peer, wrong string) {
	r, wrong := decode(raw)
	if wrong != "" {
		return Peer{}, wrong
	}
	return describe(r)
}

// check returns what holds of an answer to a question for n peers by self.
func check(r response, n int, self peer.ID) Answer {
	var a Answer
	refuse := func(why string, n int) {
		if a.Refused == nil {
			a.Refused = make(map[string]int)
		}
		a.Refused[why] += n
	}
	at := make(map[peer.ID]int, min(n, len(r.records)))
	for i, raw := range r.records {
		if len(a.Peers) >= n {
			refuse(RefusedSurplus, len(r.records)-i)
			break
		}
		p, wrong := read(raw)
		if wrong == "" && p.Info.ID == self {
			wrong = RefusedSelf
		}
		if wrong != "" {
			refuse(wrong, 1)
			continue
		}
		j, known := at[p.Info.ID]
		switch {
		case !known:
			at[p.Info.ID] = len(a.Peers)
			a.Peers = append(a.Peers, p)
			continue
		case p.Seq > a.Peers[j].Seq:
			a.Peers[j] = p
		}
		refuse(RefusedDuplicate, 1)
	}
	if r.more > 0 {
		refuse(RefusedSurplus, r.more)
	}
	return a
}
