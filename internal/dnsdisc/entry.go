package dnsdisc

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"

	"github.com/status-im/shoal/internal/enr"
)

const (
	rootPrefix   = "enrtree-root:"
	rootV1       = rootPrefix + "v1"
	branchPrefix = "enrtree-branch:"
	recordPrefix = "enr:"

	// maxText is the length of the longest entry that is read. Publishers keep
	// to 370 bytes or so, for the sake of DNS over UDP; a record has at most
	// 404.
	maxText = 2048

	minHash, maxHash = 12, 32 // bytes of a keccak256
)

type hasher struct {
	hash.Hash
	buf []byte
}

var hashers = sync.Pool{New: func() any { return &hasher{Hash: sha3.NewLegacyKeccak256()} }}

func keccak256(text string) [32]byte {
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	h.Reset()
	h.buf = append(h.buf[:0], text...)
	h.Write(h.buf)
	h.buf = h.Sum(h.buf[:0])
	return [32]byte(h.buf)
}

// ref is how an entry is named: a hash, cut short, as a DNS label.
type ref string

// id is what two refs to one entry have in common.
type id [minHash]byte

func parseRef(s string) (ref, error) {
	if len(s) > b32.EncodedLen(maxHash) {
		return "", errors.New("hash too long")
	}
	raw, err := b32.DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return "", errors.New("hash isn't base32")
	}
	if len(raw) < minHash {
		return "", errors.New("hash too short")
	}
	return ref(s), nil
}

// prefix returns the hash's bytes.
func (r ref) prefix() []byte {
	raw, _ := b32.DecodeString(string(r))
	return raw
}

func (r ref) id() id { return id(r.prefix()) }

// names reports whether r is the hash of e's text.
func (r ref) names(e *entry) bool { return e != nil && bytes.HasPrefix(e.sum[:], r.prefix()) }

// pick returns the text that r is the hash of. A resolver that doesn't put the
// pieces of a long TXT record together is forgiven.
func (r ref) pick(txts []string) (*entry, bool) {
	prefix := r.prefix()
	for _, text := range candidates(txts) {
		if sum := keccak256(text); bytes.HasPrefix(sum[:], prefix) {
			return parseEntry(text, sum), true
		}
	}
	return nil, false
}

// candidates returns what may be an entry: each of txts and all of them joined.
func candidates(txts []string) []string {
	const most = 32
	txts = txts[:min(len(txts), most)]
	var out []string
	length := 0
	for _, text := range txts {
		length += len(text)
		if text != "" && len(text) <= maxText {
			out = append(out, text)
		}
	}
	if len(txts) > 1 && length <= maxText {
		out = append(out, strings.Join(txts, ""))
	}
	return out
}

// Why entries are of no use: keys of List.Refused.
const (
	RefusedMalformed = "malformed"        // neither branch, record nor link
	RefusedRecord    = "malformed record" // not by the rules of EIP-778
	RefusedTooLarge  = "record too large"
	RefusedSignature = "record's signature"
	RefusedPlace     = "in the wrong place" // a link among the records, or the other way round
	RefusedOld       = "superseded"         // there is a newer record of that node, or the same again
)

// entry is what is found at a hash: a branch, a record, a link, or rubbish. It
// doesn't change.
type entry struct {
	text     string
	sum      [32]byte
	branch   bool
	children []ref
	record   *enr.Record
	link     *URL
	refused  string // reason
	bad      int    // how often: of a branch, its children that are no hashes
}

func parseEntry(text string, sum [32]byte) *entry {
	e := &entry{text: text, sum: sum}
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }):
		e.refuse(RefusedMalformed)
	case strings.HasPrefix(text, branchPrefix):
		e.branch = true
		e.parseBranch(text[len(branchPrefix):])
	case strings.HasPrefix(text, recordPrefix):
		r, err := enr.Parse(text)
		e.record = r
		switch {
		case err == nil:
		case errors.Is(err, enr.ErrTooLarge):
			e.refuse(RefusedTooLarge)
		case errors.Is(err, enr.ErrSignature):
			e.refuse(RefusedSignature)
		default:
			e.refuse(RefusedRecord)
		}
	case strings.HasPrefix(text, linkPrefix):
		u, err := parseURL(text)
		if err != nil {
			e.refuse(RefusedMalformed)
			break
		}
		e.link = &u
	default:
		e.refuse(RefusedMalformed)
	}
	return e
}

func (e *entry) refuse(reason string) { e.refused, e.bad = reason, e.bad+1 }

func (e *entry) parseBranch(list string) {
	if list == "" {
		return
	}
	for s := range strings.SplitSeq(list, ",") {
		r, err := parseRef(s)
		if err != nil {
			e.refuse(RefusedMalformed)
			continue
		}
		e.children = append(e.children, r)
	}
}

// empty is the entry of a tree without links, or without records. Nobody needs
// to be asked for it.
var empty = parseEntry(branchPrefix, keccak256(branchPrefix))

// root is the entry at the tree's own name.
type root struct {
	text           string
	records, links ref
	seq            uint64
	signed         string // the part of text that is
	sig            [64]byte
}

const sigLen = 65 // r ‖ s ‖ v, where v isn't needed

// parseRoot reads a root; it doesn't verify the signature.
func parseRoot(text string) (*root, error) {
	fields := strings.SplitN(text, " ", 6)
	if fields[0] != rootV1 {
		return nil, fmt.Errorf("version %.10q, not v1", strings.TrimPrefix(fields[0], rootPrefix))
	}
	if len(text) > maxText || len(fields) != 5 {
		return nil, errors.New("it doesn't have the four parts e, l, seq and sig")
	}
	var values [4]string
	for i, name := range []string{"e=", "l=", "seq=", "sig="} {
		value, ok := strings.CutPrefix(fields[i+1], name)
		if !ok {
			return nil, fmt.Errorf("no %s where it should be", name)
		}
		values[i] = value
	}
	r := &root{text: text}
	var err error
	if r.records, err = parseRef(values[0]); err != nil {
		return nil, fmt.Errorf("e: %w", err)
	}
	if r.links, err = parseRef(values[1]); err != nil {
		return nil, fmt.Errorf("l: %w", err)
	}
	if r.seq, err = strconv.ParseUint(values[2], 10, 64); err != nil {
		return nil, errors.New("seq isn't a number")
	}
	sig, err := base64.RawURLEncoding.DecodeString(values[3])
	if err != nil || len(sig) != sigLen || strings.ContainsAny(values[3], "\r\n") {
		return nil, fmt.Errorf("sig isn't base64 of %d bytes", sigLen)
	}
	r.sig = [64]byte(sig)
	r.signed, _, _ = strings.Cut(text, " sig=")
	return r, nil
}

// verify reports whether r is signed by the key. The second form of a
// signature, with s above half the order, isn't one.
func (r *root) verify(u URL) bool {
	key, err := secp256k1.ParsePubKey(u.key[:])
	if err != nil {
		return false
	}
	var rr, ss secp256k1.ModNScalar
	if rr.SetByteSlice(r.sig[:32]) || ss.SetByteSlice(r.sig[32:]) || rr.IsZero() || ss.IsZero() || ss.IsOverHalfOrder() {
		return false
	}
	sum := keccak256(r.signed)
	return ecdsa.NewSignature(&rr, &ss).Verify(sum[:], key)
}

// pickRoot finds the tree's root among the TXT records of its name, which may
// hold other things too: the newest of those signed by the right key.
func pickRoot(u URL, txts []string) (*root, *Error) {
	const most = 8
	var best *root
	err := &Error{Tree: u.Domain, Err: ErrNoTree}
	tried := 0
	for _, text := range candidates(txts) {
		if !strings.HasPrefix(text, rootPrefix) || tried == most {
			continue
		}
		tried++
		r, cause := parseRoot(text)
		if cause != nil {
			if err.Err == ErrNoTree {
				err.Err, err.Cause = ErrMalformed, cause
			}
			continue
		}
		if !r.verify(u) {
			err.Err, err.Cause = ErrSignature, nil
			continue
		}
		if best == nil || r.seq > best.seq {
			best = r
		}
	}
	if best == nil {
		return nil, err
	}
	return best, nil
}
