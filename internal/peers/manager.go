package peers

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/status-im/shoal/sharding"
)

// Defaults of [Config].
const (
	DefaultMaxConns = 300
	DefaultPerAddr  = 30
	DefaultMaxKnown = 2000
)

// Config configures a [Manager]. All but Self and Cluster may be zero.
type Config struct {
	// Self is the node's own id, Cluster the network it belongs to: peers that
	// are said to serve shards of another one are refused.
	Self    peer.ID
	Cluster uint16
	// MaxConns is how many connections the node may have, MaxInbound how many of
	// these may be made by others. From nine tenths on peers are dropped, so that
	// there is room for newcomers to be looked at. 0: DefaultMaxConns, and two
	// thirds of MaxConns.
	MaxConns, MaxInbound int
	// PerAddr is how many inbound connections one address (IPv6: one /64) may
	// have. 0: DefaultPerAddr.
	PerAddr int
	// MaxKnown is how many peers are remembered, twice MaxConns at least. 0:
	// DefaultMaxKnown.
	MaxKnown int
	// AllowPrivate lets peers be dialled at loopback and LAN addresses, whoever
	// tells of them; otherwise only the operator and the program may. Limits per
	// address don't apply to such addresses.
	AllowPrivate bool
	// Rand is the source of all that is left to chance. nil: a random one.
	Rand rand.Source
}

func (c Config) withDefaults() Config {
	or := func(n, otherwise int) int {
		if n > 0 {
			return n
		}
		return otherwise
	}
	c.MaxConns = or(c.MaxConns, DefaultMaxConns)
	c.MaxInbound = min(or(c.MaxInbound, max(1, c.MaxConns*2/3)), c.MaxConns)
	c.PerAddr = or(c.PerAddr, DefaultPerAddr)
	c.MaxKnown = max(or(c.MaxKnown, DefaultMaxKnown), 2*c.MaxConns)
	if c.Rand == nil {
		c.Rand = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	return c
}

// Manager is a node's memory of peers and its judgement. Its methods may be called
// from several goroutines; times that go back count as the latest one given.
type Manager struct {
	cfg Config

	mu   sync.Mutex
	rand *rand.Rand
	now  time.Time

	known    map[peer.ID]*entry
	all      list
	bySource [sources]list
	tellers  map[teller][]*entry // those whose word is taken for so many only
	hosts    map[place]*host
	resting  []place // hosts where nobody known lives, and that rest; the oldest first
	conns    list
	dials    list

	cuts   map[peer.ID]time.Time // until when; remembered longer than what else is known
	cutIDs []peer.ID             // their keys
	lists  map[string]bool       // signed trees that have told of peers

	circuits bool // may be dialled
	needs    []need
	kept     map[peer.ID]bool

	pace    pace
	refused map[string]uint64
	counts  counts
}

type counts struct{ dialled, reached, failed, dropped, forgotten, ambiguous uint64 }

type teller struct {
	source Source
	from   string
}

// host is an address where peers live.
type host struct {
	members  []*entry
	failures int // dials in a row that found nobody
	until    time.Time
	queued   bool // in resting
}

// entry is what is known of a peer.
type entry struct {
	id       peer.ID
	source   Source   // the most trusted one
	tellers  []teller // who told, of that source, the first ones first
	seen     time.Time
	addrs    []*addr
	good     *addr   // where it was reached last
	says     []*addr // where it listens by its own word, if it came from there
	shards   sharding.Set
	words    [words]uint64 // of shards: these are asked often
	silent   bool          // nobody said which shards
	services Service
	record   []byte
	seq      uint64
	signed   uint64 // the number of the last Signed sighting

	// Dialling.
	failures int
	until    time.Time // it rests
	pardoned time.Time // when a newer record ended its rest last
	barred   bar
	barUntil time.Time
	lastErr  string
	reached  time.Time // when it was last proven on a connection that we dialled
	answers  time.Time // when it was last sure that others can reach it
	expires  time.Time // of the dial
	dialled  []*addr   // and where
	chosen   *addr     // within one Plan: where it might be dialled

	// The connection.
	inbound bool
	proven  bool
	since   time.Time
	at      *addr // the other end's
	alive   time.Time
	rtt     time.Duration
	dropped time.Time // when it was to be disconnected

	pos [lists]int
}

// bar is why a peer isn't dialled however much it is needed. It ends when somebody
// tells of the peer after its time.
type bar uint8

const (
	notBarred bar = iota
	dead
	foreign
	cut
)

func (b bar) String() string {
	return [...]string{"", "dead", "foreign", "cut"}[b]
}

// New returns a Manager that knows nobody.
func New(cfg Config) *Manager {
	cfg = cfg.withDefaults()
	m := &Manager{
		cfg:     cfg,
		rand:    rand.New(cfg.Rand),
		known:   map[peer.ID]*entry{},
		all:     list{slot: slotAll},
		tellers: map[teller][]*entry{},
		hosts:   map[place]*host{},
		conns:   list{slot: slotConns},
		dials:   list{slot: slotDials},
		kept:    map[peer.ID]bool{},
		cuts:    map[peer.ID]time.Time{},
		refused: map[string]uint64{},
		lists:   map[string]bool{},
	}
	for i := range m.bySource {
		m.bySource[i].slot = slotSource
	}
	return m
}

// enter begins an event: the caller unlocks.
func (m *Manager) enter(now time.Time) {
	m.mu.Lock()
	if now.After(m.now) {
		m.now = now
	}
}

// Want sets what the node needs, in place of what it needed. Those that come first
// are served first when little is to be had.
func (m *Manager) Want(now time.Time, needs []Need) {
	m.enter(now)
	defer m.mu.Unlock()
	m.needs = make([]need, len(needs))
	for i, n := range needs {
		n.Min = max(0, n.Min)
		n.Target = max(n.Min, n.Target)
		n.Outbound = max(0, n.Outbound)
		m.needs[i] = need{Need: n}
		if n.Shard.Cluster == m.cfg.Cluster && n.Shard.Valid() == nil {
			m.needs[i].word, m.needs[i].bit, m.needs[i].exists = n.Shard.Index/64, n.Shard.Index%64, true
		}
	}
}

// need is a Need and where its shard is in an entry's words, if there can be such
// a shard.
type need struct {
	Need
	word, bit uint16
	exists    bool
}

const words = (sharding.MaxIndex + 1) / 64

// carry notes which shards a peer carries.
func (e *entry) carry(shards sharding.Set) {
	e.shards, e.silent, e.words = shards, shards.Len() == 0, [words]uint64{}
	for s := range shards.All() {
		e.words[s.Index/64] |= 1 << (s.Index % 64)
	}
}

func (e *entry) carries(n *need) bool { return n.exists && e.words[n.word]>>n.bit&1 == 1 }

// Keep sets which peers are never dropped, in place of those it named before.
func (m *Manager) Keep(ids ...peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.kept)
	for _, id := range ids {
		m.kept[id] = true
	}
}

// UseCircuits says whether peers may be dialled through circuits (/p2p-circuit), which
// is for nodes that nobody else can reach. At first they may not.
func (m *Manager) UseCircuits(now time.Time, may bool) {
	m.enter(now)
	defer m.mu.Unlock()
	m.circuits = may
}

// NetworkChanged ends all rests: what failed may be reachable from here. How often
// it failed isn't forgotten, so the next rest is as long as it would have been.
func (m *Manager) NetworkChanged(now time.Time) {
	m.enter(now)
	defer m.mu.Unlock()
	m.pace.streak = 0
	for _, e := range m.all.items {
		if e.barred == notBarred {
			e.until = time.Time{}
		}
		if !e.reached.IsZero() {
			e.failures = min(e.failures, 3)
		}
	}
	for _, h := range m.hosts {
		h.until = time.Time{}
	}
}

// uses reports whether e, as far as is known, has what a need asks for.
func (e *entry) uses(n *need) bool {
	return e.services.Has(n.Service) &&
		(n.AnyShard || e.carries(n) || e.silent && n.exists && !n.Service.Has(Relay))
}

// may reports whether e is worth a try for a need: what nobody has said might be.
func (e *entry) may(n *need) bool {
	s := e.services
	if e.reached.IsZero() && !e.proven {
		s |= PeerExchange // records don't tell
		if e.services == 0 {
			s = ^Service(0)
		}
	}
	return s.Has(n.Service) && (n.AnyShard || e.carries(n) || e.silent && n.exists)
}
