package peerexchange

import (
	"errors"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/internal/enr"
)

// read reads a record and says what is wrong with it, "" if nothing is.
func read(raw []byte) (p Peer, wrong string) {
	r, err := enr.Decode(raw)
	switch {
	case errors.Is(err, enr.ErrTooLarge):
		return Peer{}, RefusedTooLarge
	case errors.Is(err, enr.ErrKey):
		return Peer{}, RefusedKey
	case errors.Is(err, enr.ErrSignature):
		return Peer{}, RefusedSignature
	case err != nil:
		return Peer{}, RefusedMalformed
	}
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
