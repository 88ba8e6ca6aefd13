// Package waku is a node of a Waku network in your program: it joins the shards
// of communities, sends, receives, and tells how it is.
//
//	node, err := waku.New(ctx, waku.WithStaticPeers(fleet))
//	m, err := node.Join(ctx, waku.Community{Shard: shard, PublicKey: pub}, waku.SignWith(key))
//	d, err := m.Send(ctx, "/chat/1/lobby/proto", []byte("hello"))
//	for env, err := range m.Messages(ctx, "/chat/1/lobby/proto") { … }
//
// Three names are enough to begin with: [New], [Node.Join] and [Membership].
// [Node.Health] says what works and why the rest doesn't, [Node.Events] says
// when it changes.
//
// # Life and death
//
// New returns a running [Node], or an error and nothing left behind. Its ctx
// bounds the start alone. Close ends what New started, within five seconds, and
// waits for it. After it every method fails with an error that is net.ErrClosed.
//
// # Protected shards
//
// A community signs what is said on its shard with a key that all members hold
// (57/STATUS-SIMPLE-SCALING). Whoever relays the shard knows the public key and
// passes on nothing else. Such a shard fails closed: from before the first
// message, over leaving and joining again, a key that comes late and a change of
// keys, there is no moment in which an unsigned message gets through. A shard
// that was protected once stays so for the node's life.
//
// # Relay or light
//
// A member relays for others, or is light: joined with [AsLight], service nodes push
// to it what its readers ask for (12/WAKU2-FILTER) and publish what it sends
// (19/WAKU2-LIGHTPUSH). It verifies what it is handed as a relaying member does,
// keeps two service nodes where it can, so that each shows what the other leaves
// out, and reads gaps back from a store. The rest of the program is the same;
// [Membership.Switch] changes the way while it runs. [WithFilterService] and
// [WithLightPushService] make a node that serves.
//
// # Control messages, and large ones
//
// A community may have shards for its control messages and media beside its own
// ([Community].Control). What a message is, its sender says ([OfClass], [OfType]), or
// [Routing] knows. Members are light on those shards unless they choose to relay them.
// [Membership.SendLarge] cuts what is too large for one message, and
// [Membership.Latest] keeps up with something of which only the newest version counts.
// [Node.Telemetry] tells what each class of message costs.
//
// # What becomes of a message
//
// Send returns at once. The [Delivery] is Queued, Propagated when relay peers were handed
// the message or service peers have accepted it, and Stored when a store node has it; or
// it is Failed or Expired, and says why. [Delivery.Wait] waits, [Delivery.Changes] tells
// of each state. What hasn't left yet leaves when somebody is there, after a pause and,
// with [WithStateStore], after a restart as well.
//
// # What it won't do
//
// It doesn't encrypt payloads and doesn't know users: that is the application's
// layer. It keeps nothing on disk. It never writes to a global logger or
// registry, and two nodes in one process don't meet unless they connect.
package waku
