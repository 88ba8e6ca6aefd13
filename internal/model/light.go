package model

// Light is what light members of a shard pay, and those who serve them: messages come
// by filter, each from Pushers service nodes, and go by light push.
type Light struct {
	// Rate and Size are the shard's, as in Shard.
	Rate, Size float64
	// Share is the part of the shard's messages that a light member asks for.
	Share float64
	// Pushers is how many service nodes push each message. Zero: 2.
	Pushers float64
	// Says is how many messages a second a light member publishes.
	Says float64
}

const (
	// A push is a stream of its own: its protocol, the message, its topic, lengths.
	lightFrame = 60
	// pingEvery is how many seconds pass between two questions to a service node
	// whether it still pushes, lightPing what one and its answer take.
	pingEvery = 60
	lightPing = 2 * 120
)

// Member is what a light member receives and sends, in Mbit/s.
func (l Light) Member() float64 {
	pushers := l.Pushers
	if pushers == 0 {
		pushers = 2
	}
	push := TCPCost(l.Size + lightFrame)
	return (pushers*(l.Rate*l.Share*push+TCPCost(lightPing)/pingEvery) + 2*l.Says*push) * 8 / 1e6
}

// Service is what a service node sends so many light members, each served by Pushers
// nodes of all, in Mbit/s; members counts those that it serves.
func (l Light) Service(members float64) float64 {
	pushers := l.Pushers
	if pushers == 0 {
		pushers = 2
	}
	return members * l.Member() / pushers
}
