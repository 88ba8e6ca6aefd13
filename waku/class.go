package waku

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/status-im/shoal/sharding"
)

// Class is a kind of message. It decides which of a community's shards a message
// travels on, and under what its bytes are counted, see [Node.Telemetry].
type Class uint8

// The classes.
const (
	// ClassChat is for what members say. It travels on the community's shard.
	ClassChat Class = iota
	// ClassControl is for what holds a community together: its description, who
	// belongs to it, backups. It travels on the control shard, if there is one.
	ClassControl
	// ClassMedia is for pictures and the like. It travels on the media shard, if
	// there is one.
	ClassMedia

	classes = 3
)

// classPriority is how urgent messages of a class are, if nobody says otherwise.
var classPriority = [classes]Priority{PriorityChat, PriorityControl, PriorityHistory}

var classWords = [classes]string{"chat", "control", "media"}

// String returns the class in a word.
func (c Class) String() string {
	if c >= classes {
		return fmt.Sprintf("class %d", uint8(c))
	}
	return classWords[c]
}

// MessageType is the number that Status gives a kind of application message
// (ApplicationMetadataMessage).
type MessageType uint32

// Some of Status's message types: those that routing speaks of.
const (
	TypeMembershipUpdate              MessageType = 3
	TypeCommunityDescription          MessageType = 25
	TypeCommunityRequestToJoin        MessageType = 27
	TypeBackup                        MessageType = 36
	TypeSyncProfilePictures           MessageType = 44
	TypeCommunityRequestToJoinAnswer  MessageType = 48
	TypeCommunityCancelRequestToJoin  MessageType = 60
	TypeCommunityShardKey             MessageType = 73
	TypeCommunityPublicShardInfo      MessageType = 79
	TypeCommunityUserKicked           MessageType = 81
	TypeCommunitySharedAddressesReply MessageType = 90
)

// Route is where messages of a kind go.
type Route struct {
	Class Class
	// Shard is the one to use whatever shards the community has for the class; nil:
	// the community's.
	Shard *sharding.Shard
}

// Routing tells the class of messages whose sender doesn't name one, see [OfClass].
// The zero value knows none: everything is [ClassChat].
type Routing struct {
	// Name labels the routing in errors.
	Name string
	// Types are looked up first, for messages sent with [OfType]; then Topics, by
	// content topic, for what is received too.
	Types  map[MessageType]Route
	Topics map[string]Route
}

// rfc57Control are the messages that 57/STATUS-SIMPLE-SCALING moves to a control shard.
var rfc57Control = []MessageType{
	TypeMembershipUpdate, TypeCommunityDescription, TypeBackup, TypeSyncProfilePictures, TypeCommunityRequestToJoinAnswer,
}

// RoutingRFC57 has the five kinds of message that 57/STATUS-SIMPLE-SCALING names go to
// the control shard: community descriptions, membership updates, backups, answers to
// requests to join and profile pictures.
func RoutingRFC57() Routing {
	r := Routing{Name: "rfc57", Types: map[MessageType]Route{}}
	for _, t := range rfc57Control {
		r.Types[t] = Route{Class: ClassControl}
	}
	return r
}

// RoutingStatus is what the Status app does, which has no control shards: requests to
// join and what goes with them use shard 16/64, which takes unsigned messages; what
// isn't for one community uses 16/32, and the description its community's shard. Their
// classes are those of [RoutingRFC57].
func RoutingStatus() Routing {
	on := func(index uint16) *sharding.Shard {
		return &sharding.Shard{Cluster: sharding.StatusCluster, Index: index}
	}
	r := Routing{Name: "status", Types: map[MessageType]Route{
		TypeCommunityDescription: {Class: ClassControl},
	}}
	for _, t := range []MessageType{
		TypeCommunityRequestToJoin, TypeCommunityCancelRequestToJoin, TypeCommunityRequestToJoinAnswer,
		TypeCommunityUserKicked, TypeCommunitySharedAddressesReply, TypeCommunityPublicShardInfo,
	} {
		r.Types[t] = Route{Class: ClassControl, Shard: on(sharding.NonProtectedShard)}
	}
	for _, t := range []MessageType{TypeMembershipUpdate, TypeBackup, TypeSyncProfilePictures, TypeCommunityShardKey} {
		r.Types[t] = Route{Class: ClassControl, Shard: on(sharding.DefaultShard)}
	}
	return r
}

// WithStatusTopics returns a copy that knows the content topics on which Status
// publishes a community's control messages: those of its id, 0x and the 66 hexadecimal
// digits of its compressed key.
func (r Routing) WithStatusTopics(communityID string) Routing {
	r.Topics = maps.Clone(r.Topics)
	if r.Topics == nil {
		r.Topics = map[string]Route{}
	}
	for _, name := range []string{communityID, communityID + "-memberUpdate"} {
		r.Topics[sharding.StatusContentTopic(name)] = Route{Class: ClassControl}
	}
	return r
}

// route is where a message goes, unless its sender names the class.
func (r *Routing) route(t *MessageType, contentTopic string) (route Route, ok bool) {
	if t != nil {
		if route, ok = r.Types[*t]; ok {
			return route, true
		}
	}
	route, ok = r.Topics[contentTopic]
	return route, ok
}

// check says what is wrong with a community's shards for classes.
func (c Community) checkClasses() error {
	for name, s := range map[string]*sharding.Shard{"Control": c.Control, "Media": c.Media} {
		switch {
		case s == nil:
		case s.Valid() != nil:
			return fmt.Errorf("shard Community.%s: %w", name, s.Valid())
		case *s == c.Shard:
			return fmt.Errorf("shard Community.%s is the community's own: leave it nil to have no other", name)
		}
	}
	if c.Control != nil && c.Media != nil && *c.Control == *c.Media {
		return fmt.Errorf("shards Community.Control and Media are both %s", *c.Control)
	}
	for t, r := range c.Routing.Types {
		if r.Class >= classes {
			return fmt.Errorf("routing %q sends type %d to %s, which there isn't", c.Routing.Name, t, r.Class)
		}
	}
	for t, r := range c.Routing.Topics {
		if r.Class >= classes {
			return fmt.Errorf("routing %q sends %q to %s, which there isn't", c.Routing.Name, t, r.Class)
		}
	}
	return nil
}

// RouteError is returned by [Membership.Send] for a message that belongs on a shard
// which isn't the community's.
type RouteError struct {
	Routing string
	// Shard is where it belongs: join it, and send it by that membership.
	Shard sharding.Shard
}

// Error implements error.
func (e *RouteError) Error() string {
	return fmt.Sprintf("waku: by routing %q the message belongs on shard %s, which isn't among the community's: join that one to send it", e.Routing, e.Shard)
}

// OfClass says which class the message is of, whatever the community's routing says.
func OfClass(class Class) SendOption {
	return func(c *sendConfig) { c.class, c.classed = class, true }
}

// OfType names the kind of message, for the community's routing.
func OfType(t MessageType) SendOption { return func(c *sendConfig) { c.kind = &t } }

// RelayControl has the membership relay the community's control and media shards,
// rather than leave that to infrastructure. What is published there is then passed
// on, all of it.
func RelayControl() JoinOption { return func(c *joinConfig) { c.relayControl = true } }

// errClass is an unknown class.
func errClass(c Class) error { return fmt.Errorf("waku: OfClass: there is no %s", c) }

// Control is the part in the community's control shard; nil if there is none. It is
// light, whatever the membership is, unless [RelayControl] says otherwise or it is
// switched: what it sends goes by light push to nodes that relay the shard, and its
// readers get what they ask for by filter, or by [Membership.Latest]. It ends with the
// membership.
func (m *Membership) Control() *Membership { return m.classed[ClassControl] }

// Media is what [Membership.Control] is, for the media shard.
func (m *Membership) Media() *Membership { return m.classed[ClassMedia] }

// joinClasses joins the shards that a community has beside its own.
func (n *Node) joinClasses(m *Membership, c Community, cfg joinConfig) error {
	cfg.modes, cfg.whole = []Mode{ModeLight}, m
	if cfg.relayControl {
		cfg.modes = []Mode{ModeRelay}
	}
	for class, id := range map[Class]*sharding.Shard{ClassControl: c.Control, ClassMedia: c.Media} {
		if id == nil {
			continue
		}
		part := c
		part.Shard = *id
		t, err := n.terms(part, cfg)
		if err != nil {
			return err
		}
		if m.classed[class], err = n.ensureShard(*id).join(t, cfg); err != nil {
			return err
		}
		m.classed[class].class, m.classed[class].routing = class, c.Routing
	}
	return nil
}

// carrier is the membership by which a message goes.
func (m *Membership) carrier(contentTopic string, cfg *sendConfig) (*Membership, error) {
	if cfg.classed && cfg.class >= classes {
		return nil, errClass(cfg.class)
	}
	if !cfg.classed {
		route, ok := m.routing.route(cfg.kind, contentTopic)
		if !ok {
			route.Class = m.class
		}
		cfg.class = route.Class
		if route.Shard != nil {
			return m.on(*route.Shard)
		}
	}
	if to := m.classed[cfg.class]; to != nil {
		return to, nil
	}
	return m, nil
}

// on is the membership's part on a shard.
func (m *Membership) on(id sharding.Shard) (*Membership, error) {
	for _, part := range append([]*Membership{m}, m.parts()...) {
		if part.Shard() == id {
			return part, nil
		}
	}
	return nil, &RouteError{Routing: m.routing.Name, Shard: id}
}

// parts are the memberships of the community's other shards.
func (m *Membership) parts() []*Membership {
	return slices.DeleteFunc(slices.Clone(m.classed[:]), func(p *Membership) bool { return p == nil })
}

// sisters are the other shards of the communities that the shard belongs to.
func (s *shard) sisters() (out []*shard) {
	own := s.wholes()
	for _, o := range s.node.shards.all() {
		if o != s && slices.ContainsFunc(o.wholes(), func(m *Membership) bool { return slices.Contains(own, m) }) {
			out = append(out, o)
		}
	}
	return out
}

// wholes are the memberships that the shard's are parts of.
func (s *shard) wholes() (out []*Membership) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.members {
		out = append(out, cmp.Or(m.whole, m))
	}
	return out
}

// everywhere changes something on all of the community's shards.
func (m *Membership) everywhere(f func(*Membership) error) error {
	err := f(m)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range m.parts() {
		errs = append(errs, f(p))
	}
	return errors.Join(errs...)
}
