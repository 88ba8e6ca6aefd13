package sharding

// StatusCluster is the cluster of Status's main network.
const StatusCluster = 16

// The shards of [StatusCluster] that Status uses.
const (
	// DefaultShard carries whatever has no shard of its own: one-to-one chats,
	// contacts, synchronisation, communities without a shard.
	DefaultShard = 32
	// NonProtectedShard carries what people outside a community send to it, such
	// as requests to join, and so takes unsigned messages.
	NonProtectedShard = 64
	// CommunityControlShard carries the control messages of communities
	// (56/STATUS-COMMUNITIES).
	CommunityControlShard = 128
	// CommunityContentShard carries the content of communities
	// (56/STATUS-COMMUNITIES).
	CommunityContentShard = 256
	// FleetShard is a reserved shard that the fleet serves besides.
	FleetShard = 1
)

// The shards that [StatusCluster] keeps for one community, Status CC
// (57/STATUS-SIMPLE-SCALING).
const (
	StatusCCShard        = 16  // its messages
	StatusCCControlShard = 896 // its control messages
	StatusCCMediaShard   = 897 // its media
)

// StatusFleet returns the shards that Status's fleet serves.
func StatusFleet() Set {
	s := Set{cluster: StatusCluster}
	_ = s.Add(FleetShard, DefaultShard, NonProtectedShard, CommunityControlShard, CommunityContentShard) // all exist
	return s
}

// Purpose is what a range of [StatusCluster] is for, by the plan of
// 57/STATUS-SIMPLE-SCALING. The plan doesn't bind: today's Status puts
// one-to-one chats on [DefaultShard], in the range of the large communities.
type Purpose uint8

// The purposes. NoPurpose is that of an index that doesn't exist.
const (
	NoPurpose      Purpose = iota
	Reserved               // 0 to 15
	LargeCommunity         // 16 to 127
	Community              // 128 to 767, assigned by their owners
	OneToOne               // 768 to 895, private groups as well
	Control                // 896 to 1023, control messages and media of communities
)

// plan holds the first index of each purpose, and of what comes after it.
var plan = [...]uint16{Reserved: 0, LargeCommunity: 16, Community: 128, OneToOne: 768, Control: 896, Control + 1: MaxIndex + 1}

// Use returns the purpose of a shard of [StatusCluster].
func Use(index uint16) Purpose {
	for p := Reserved; p <= Control; p++ {
		if index < plan[p+1] {
			return p
		}
	}
	return NoPurpose
}

// Range returns the first and the last index of a purpose; ok is false for one
// that isn't in the plan.
func (p Purpose) Range() (first, last uint16, ok bool) {
	if p < Reserved || p > Control {
		return 0, 0, false
	}
	return plan[p], plan[p+1] - 1, true
}

// String returns the purpose in words.
func (p Purpose) String() string {
	switch p {
	case Reserved:
		return "reserved"
	case LargeCommunity:
		return "large community"
	case Community:
		return "community"
	case OneToOne:
		return "one-to-one"
	case Control:
		return "control and media"
	}
	return "none"
}
