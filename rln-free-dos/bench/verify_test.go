//go:build cgo

// Package bench compares dosguard's verification with decred's and with
// libsecp256k1, called through cgo. Run it in this directory:
//
//	go test -bench .
package bench

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	libsecp256k1 "github.com/ethereum/go-ethereum/crypto/secp256k1"

	dosguard "github.com/status-im/shoal/rln-free-dos"
)

// verifiers are the three, for one key.
func verifiers(t testing.TB, key *dosguard.PublicKey) (names []string, verify []func(digest [32]byte, sig []byte) bool) {
	compressed := key.Bytes()
	decred, err := secp256k1.ParsePubKey(compressed)
	if err != nil {
		t.Fatal(err)
	}
	uncompressed := key.Uncompressed()
	return []string{"decred", "dosguard", "libsecp256k1"}, []func([32]byte, []byte) bool{
		func(digest [32]byte, sig []byte) bool {
			var r, s secp256k1.ModNScalar
			if len(sig) != 64 || r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || s.IsOverHalfOrder() {
				return false
			}
			return ecdsa.NewSignature(&r, &s).Verify(digest[:], decred)
		},
		key.Verify,
		func(digest [32]byte, sig []byte) bool {
			// As an implementation with a fixed key would call it: with the form
			// that is parsed without a square root.
			return libsecp256k1.VerifySignature(uncompressed, digest[:], sig)
		},
	}
}

func newKey(t testing.TB) *dosguard.PrivateKey {
	key, err := dosguard.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func digestOf(i int) [32]byte {
	return sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(i)))
}

// The three agree, on good signatures and on damaged ones.
func TestAgreement(t *testing.T) {
	for range 5 {
		key := newKey(t)
		names, verify := verifiers(t, key.PublicKey())
		for i := range 500 {
			digest := digestOf(i)
			sig := key.SignDigest(digest)
			switch i % 5 {
			case 1:
				sig[i%64] ^= 1 << (i % 8)
			case 2:
				digest[i%32] ^= 1 << (i % 8)
			case 3:
				clear(sig[i%33 : i%33+32])
			case 4:
				sig = sig[:i%65]
			}
			want := verify[0](digest, sig)
			for j := range verify {
				if got := verify[j](digest, sig); got != want {
					t.Fatalf("%s says %v, %s says %v: digest %x, signature %x", names[j], got, names[0], want, digest, sig)
				}
			}
		}
	}
}

// BenchmarkVerify takes the three in turns of some milliseconds, so that whatever
// else the machine does falls on all of them alike. The ratios are those of the
// medians: how many times decred's speed, and libsecp256k1's.
func BenchmarkVerify(b *testing.B) {
	const turn = 32
	key := newKey(b)
	_, verify := verifiers(b, key.PublicKey())
	digests, sigs := make([][32]byte, 1024), make([][]byte, 1024)
	for i := range digests {
		digests[i] = digestOf(i)
		sigs[i] = key.SignDigest(digests[i])
	}
	key.PublicKey().Verify(digests[0], sigs[0]) // computes the tables
	times := make([][]time.Duration, len(verify))
	next := 0
	for b.Loop() {
		for i := range verify {
			began := time.Now()
			for j := range turn {
				k := (next + j) % len(sigs)
				if !verify[i](digests[k], sigs[k]) {
					b.Fatal("refused")
				}
			}
			times[i] = append(times[i], time.Since(began))
		}
		next += turn
	}
	median := func(i int) float64 {
		slices.Sort(times[i])
		return float64(times[i][len(times[i])/2]) / turn
	}
	decred, ours, lib := median(0), median(1), median(2)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(decred, "decred-ns")
	b.ReportMetric(ours, "dosguard-ns")
	b.ReportMetric(lib, "libsecp256k1-ns")
	b.ReportMetric(decred/ours, "x-decred")
	b.ReportMetric(lib/ours, "x-libsecp256k1")
}
