// Package dosguard protects a shard from messages that nobody in its community
// wrote, without rate-limiting nullifiers: members sign what they send with the
// community's key, and every relay refuses, at the first hop, what isn't signed
// (57/STATUS-SIMPLE-SCALING, opt-in message signatures).
//
// Three names are enough to begin with: [PrivateKey.Sign] puts a signature into a
// message, [Registry] holds the keys that a shard trusts and when, and [Signed]
// judges what arrives:
//
//	guard := dosguard.NewSigned(dosguard.SignedConfig{Keys: dosguard.NewRegistry(key)})
//	guard.Screen   // before the mesh hears of the message: everything but the curve
//	guard.Validate // the last word, once per message
//	guard.Verify   // for copies that came by other ways: no memory
//
// # Verdicts
//
// Only what every implementation rejects is rejected: no timestamp, and a missing,
// malformed, high-s or wrong signature. Whatever else is refused is ignored, for
// the peer who passed it on is innocent: he may run other software, have another
// clock or an older list of keys. Each [Reason] says which of the two it is, and
// [Counters] count them.
//
// # Signatures
//
// What is signed is [Digest], a SHA-256. The signature is ECDSA over secp256k1, r
// and s as 32 bytes each, s at most n/2, in the message's meta field. Checking it
// is the dearest thing that a stranger can make a node do, and the key is always
// the same, so a [PublicKey] computes a table of [TableSize] bytes at its first
// use; a check then takes less than half of what libsecp256k1 takes, and doesn't
// allocate.
//
// # Further guards
//
// [PeerBudget] bounds what each neighbour may forward, [MaxSize] what a message
// may weigh, and [Budget] runs a validator of the application's own so that it
// can do no harm. [Chain] and [ScreenChain] put them in a row.
//
// What this package can't do: tell members of a community apart. Whoever has the
// community's key can flood it, up to the budgets of his neighbours.
package dosguard
