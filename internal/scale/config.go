package scale

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/status-im/shoal/internal/simnet"
	"github.com/status-im/shoal/relay"
)

// MessagesPerHour is what an active member says, after the published analysis.
const MessagesPerHour = 5

// MessageSize is the published analysis's mean size of an encoded message, in bytes.
const MessageSize = 2050

// Role is a node's part.
type Role string

// The roles.
const (
	Member   Role = "member"
	Fleet    Role = "fleet"
	Attacker Role = "attacker"
)

// Config says what to run. The zero value of a field has the default named there.
type Config struct {
	// Seed decides topology, places, times and authors.
	Seed uint64
	// Members relay and publish. Fleet nodes relay.
	Members, Fleet int
	// Profile is the members'. Zero: relay.Default().
	Profile relay.Profile
	// OtherProfile is what a share Other of the members runs instead.
	OtherProfile relay.Profile
	Other        float64
	// FleetProfile is the fleet's. Zero: relay.Fleet(24).
	FleetProfile relay.Profile
	// Dials is how many members each member connects to; as many come to it, on
	// average. Zero: 8, unless FleetLinks is set.
	Dials int
	// FleetLinks is how many fleet nodes each member connects to.
	FleetLinks int

	// Rate is the shard's messages a second. Zero: MessagesPerHour for each member.
	Rate float64
	// Size is that of an encoded message in bytes. Zero: MessageSize.
	Size int
	// Settle, Warm, Load and Drain are the parts of a run. Zero: 30, 5, 30 and 15 s.
	Settle, Warm, Load, Drain time.Duration

	// Net is the network; its Seed is replaced.
	Net simnet.Config
	// Line and FleetLine are the access of members and of the fleet. Zero: 20 Mbit/s
	// up and 100 down; 1 Gbit/s.
	Line, FleetLine simnet.Line
	// SlowLine is what a share Slow of the members has instead.
	SlowLine simnet.Line
	Slow     float64

	// Trouble is what befalls them.
	Trouble Trouble
	// Attack is what attackers do.
	Attack Attack
	// Notice is how long it takes peers to see that somebody has gone without a word.
	// Zero: 30 s.
	Notice time.Duration

	// Progress, if set, is called each virtual second.
	Progress func(Progress)
	// Wall is the time that has really passed. A bubble can't know; nil: none.
	Wall func() time.Duration
}

// Trouble begins when counting begins.
type Trouble struct {
	// Vanish is the share of members that go without a word, and FleetVanish that
	// of fleet nodes.
	Vanish, FleetVanish float64
	// Split parts the network into two for so long.
	Split time.Duration
}

// Progress is where a run is.
type Progress struct {
	Part string
	// Virtual time since the beginning, and until the end.
	Done, All time.Duration
	// Wall time since the beginning.
	Wall time.Duration
	// Delivered is how many of the messages due so far were delivered, own ones
	// left out.
	Delivered, Due int
	Degree         float64
	RSS            uint64
}

func (c Config) withDefaults() (Config, error) {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&c.Settle, 30*time.Second)
	set(&c.Warm, 5*time.Second)
	set(&c.Load, 30*time.Second)
	set(&c.Drain, 15*time.Second)
	set(&c.Notice, 30*time.Second)
	if c.Wall == nil {
		c.Wall = func() time.Duration { return 0 }
	}
	if c.Profile == (relay.Profile{}) {
		c.Profile = relay.Default()
	}
	if c.FleetProfile == (relay.Profile{}) {
		c.FleetProfile = relay.Fleet(24)
	}
	if c.Dials == 0 && c.FleetLinks == 0 {
		c.Dials = 8
	}
	if c.Rate == 0 {
		c.Rate = float64(c.Members) * MessagesPerHour / 3600
	}
	if c.Size == 0 {
		c.Size = MessageSize
	}
	if c.Line == (simnet.Line{}) {
		c.Line = simnet.Line{Up: 20e6, Down: 100e6}
	}
	if c.FleetLine == (simnet.Line{}) {
		c.FleetLine = simnet.Line{Up: 1e9, Down: 1e9}
	}
	if c.SlowLine == (simnet.Line{}) {
		c.SlowLine = simnet.Line{Up: 0.5e6, Down: 10e6}
	}
	if c.Attack.Dials == 0 {
		c.Attack.Dials = max(1, c.Dials)
	}
	c.Net.Seed = c.Seed
	switch {
	case c.Members < 2:
		return c, fmt.Errorf("scale: %d members, want at least 2", c.Members)
	case c.Dials >= c.Members:
		return c, fmt.Errorf("scale: each of %d members can't connect to %d others", c.Members, c.Dials)
	case c.FleetLinks > c.Fleet:
		return c, fmt.Errorf("scale: %d links to a fleet of %d", c.FleetLinks, c.Fleet)
	case c.Attack.Kind != "" && (Attacks[c.Attack.Kind] == "" || c.Attack.Attackers < 1):
		return c, fmt.Errorf("scale: attack %q by %d", c.Attack.Kind, c.Attack.Attackers)
	case c.Attack.Kind == "" && c.Attack.Attackers != 0:
		return c, errors.New("scale: attackers have nothing to do")
	case c.Size < minSize:
		return c, fmt.Errorf("scale: messages of %d bytes, want at least %d", c.Size, minSize)
	case c.Rate < 0 || c.Other < 0 || c.Other > 1 || c.Slow < 0 || c.Slow > 1:
		return c, errors.New("scale: shares are from 0 to 1, rates not negative")
	}
	return c, nil
}

// trouble says in words what befalls a run.
func (c Config) trouble() string {
	var all []string
	share := func(x float64, what string) {
		if x > 0 {
			all = append(all, fmt.Sprintf("%.0f %% %s", 100*x, what))
		}
	}
	share(c.Trouble.Vanish, "of members vanish")
	share(c.Trouble.FleetVanish, "of the fleet vanish")
	share(c.Net.Loss, "of packets lost")
	share(c.Slow, "of members slow")
	if c.Trouble.Split > 0 {
		all = append(all, fmt.Sprintf("split for %v", c.Trouble.Split))
	}
	if a := c.Attack; a.Kind != "" {
		all = append(all, fmt.Sprintf("%d attackers, %s", a.Attackers, a.Kind))
	}
	return strings.Join(all, ", ")
}
