package discv5

import (
	"net"
	"net/netip"
)

// WithLimits sets limits, on loopback as well.
func WithLimits(edit func(l *Limits)) func(*Config) {
	return func(c *Config) {
		l := Limits{
			Strangers: defaultLimits.strangers, PerStranger: defaultLimits.perStranger, Chatter: defaultLimits.chatter,
			Identities: defaultLimits.identities, Crowd: defaultLimits.crowd,
		}
		edit(&l)
		c.limits = defaultLimits
		c.limits.loopback = true
		c.limits.strangers, c.limits.perStranger, c.limits.chatter = l.Strangers, l.PerStranger, l.Chatter
		c.limits.identities, c.limits.crowd = l.Identities, l.Crowd
	}
}

// Limits are those that tests change.
type Limits struct{ Strangers, PerStranger, Chatter, Identities, Crowd int }

// Vote tells s what a peer at from sees of it, as a PONG does.
func (s *Service) Vote(from, endpoint netip.AddrPort) {
	s.self.node.UDPEndpointStatement(from, endpoint)
	s.self.look()
}

// Step has f called between the steps of each change of the record.
func (s *Service) Step(f func()) { s.self.step = f }

// Sign makes the library sign what it has now, and returns its number.
func (s *Service) Sign() uint64 { return s.self.node.Node().Seq() }

// Ping makes the library ping everyone in the table.
func (s *Service) Ping() (answers int) {
	for _, n := range s.udp.AllNodes() {
		if s.udp.Ping(n) == nil {
			answers++
		}
	}
	return answers
}

// Socket is what is read from.
func (s *Service) Socket() *net.UDPConn {
	c, _ := s.conn.socket()
	return c
}

// Forget gives up what votes have brought.
func (s *Service) Forget() { s.self.forgetVotes() }
