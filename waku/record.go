package waku

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/status-im/shoal/internal/enr"
	"github.com/status-im/shoal/rendezvous"
	"github.com/status-im/shoal/sharding"
)

// recordKeeper holds the node's latest record.
type recordKeeper struct {
	mu     sync.Mutex
	record *enr.Record
	// key names what the record says, to tell a change.
	key string
	seq uint64
	// signer makes the records while it isn't nil.
	signer recordSigner
}

// recordSigner makes the node's records as discv5 does, which finds out by itself
// where others see the node.
type recordSigner interface {
	Record() *enr.Record
	Set(enr.Fields) (*enr.Record, error)
}

// recordMargin is how many changes of the record a run may have made after the last
// one that was kept.
const recordMargin = 64

// handRecord leaves the record to a signer, which open makes.
func (n *Node) handRecord(open func(enr.Fields) (recordSigner, error)) error {
	n.record.mu.Lock()
	defer n.record.mu.Unlock()
	f, err := n.recordFields()
	if err != nil {
		return err
	}
	f.Seq = n.record.seq + 1
	s, err := open(f)
	if err != nil {
		return err
	}
	n.record.signer = s
	n.keepRecord(s.Record())
	return nil
}

// takeRecordBack makes records without a signer again.
func (n *Node) takeRecordBack() {
	n.record.mu.Lock()
	defer n.record.mu.Unlock()
	if n.record.signer != nil {
		n.keepRecord(n.record.signer.Record())
		n.record.signer, n.record.key = nil, ""
	}
}

// keepRecord takes a new record, and keeps its number for the next run. The record's mu
// is held.
func (n *Node) keepRecord(r *enr.Record) {
	n.record.record = r
	if r.Seq() != n.record.seq {
		n.record.seq = r.Seq()
		n.state.save(stateRecord, strconv.AppendUint(nil, r.Seq(), 10))
	}
}

// recordChanged follows a change that the signer made by itself. It doesn't wait.
func (n *Node) recordChanged() { n.tasks.start(func(context.Context) { n.refreshRecord() }) }

// ENR is the node's signed record (31/WAKU2-ENR) in its text form, "enr:…": key,
// address, capabilities and joined shards. Its sequence number grows with every
// change.
func (n *Node) ENR() string {
	n.record.mu.Lock()
	defer n.record.mu.Unlock()
	return n.record.record.String()
}

// openRecord makes the first record and follows the host's addresses.
func (n *Node) openRecord(ctx context.Context) error {
	// Above those of earlier runs, even if nobody kept their number.
	n.record.seq = uint64(max(0, n.cfg.now().UnixMilli()))
	if kept, err := strconv.ParseUint(string(n.state.load(ctx, stateRecord)), 10, 63); err == nil {
		n.record.seq = max(n.record.seq, kept+recordMargin)
	}
	if err := n.rebuildRecord(); err != nil {
		return err
	}
	changes, err := n.host.EventBus().Subscribe([]any{new(event.EvtLocalAddressesUpdated), new(event.EvtPeerProtocolsUpdated)})
	if err != nil {
		return fmt.Errorf("waku: watching addresses: %w", err)
	}
	n.onClose(changes.Close)
	n.tasks.start(func(ctx context.Context) {
		for {
			select {
			case e, open := <-changes.Out():
				if !open {
					return
				}
				if theirs, ok := e.(event.EvtPeerProtocolsUpdated); ok {
					n.protocolsChanged(theirs)
					continue
				}
				n.refreshRecord()
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

// protocolsChanged follows what a connected peer begins to serve.
func (n *Node) protocolsChanged(e event.EvtPeerProtocolsUpdated) {
	if slices.Contains(e.Added, rendezvous.ID) {
		n.discovery.pointsChanged()
		n.pointConnected(e.Peer)
	}
	if slices.Contains(e.Added, proto.ProtoIDv2Hop) {
		n.circuitsChanged()
	}
}

// refreshRecord follows a change of shards or addresses.
func (n *Node) refreshRecord() {
	if n.isClosed() {
		return
	}
	if err := n.rebuildRecord(); err != nil {
		n.cfg.logger.Warn("the node record can't follow a change", "err", err)
	}
}

func (n *Node) rebuildRecord() error {
	n.record.mu.Lock()
	defer n.record.mu.Unlock()
	f, err := n.recordFields()
	if err != nil {
		return err
	}
	if n.record.signer != nil {
		r, err := n.record.signer.Set(f)
		if err != nil {
			return fmt.Errorf("waku: node record: %w", err)
		}
		n.keepRecord(r)
		return nil
	}
	key := fmt.Sprint(f)
	if n.record.record != nil && key == n.record.key {
		return nil
	}
	f.Seq = n.record.seq + 1
	r, err := enr.Build(n.cfg.identity, f)
	if err != nil {
		return fmt.Errorf("waku: node record: %w", err)
	}
	n.record.key = key
	n.keepRecord(r)
	return nil
}

func (n *Node) recordFields() (enr.Fields, error) {
	f := enr.Fields{Capabilities: enr.Relay}
	if n.archiver != nil {
		f.Capabilities |= enr.Store
	}
	if n.filterServer != nil {
		f.Capabilities |= enr.Filter
	}
	if n.pushServer != nil {
		f.Capabilities |= enr.Lightpush
	}
	var indices []uint16
	for _, s := range n.shards.joined() {
		indices = append(indices, s.shard.Index)
	}
	if len(indices) > 0 {
		set, err := sharding.NewSet(n.cfg.network.Cluster, indices...)
		if err != nil {
			return f, fmt.Errorf("waku: node record: %w", err)
		}
		f.Shards = set
	}
	if n.nat != nil {
		f.Multiaddrs = n.nat.recordCircuits()
	}
	public := n.isPublic()
	for _, a := range n.addrs() {
		if isCircuit(a) || !public {
			continue
		}
		ip, port, plain := tcpAddr(a)
		if at, err := manet.ToIP(a); err == nil && !n.cfg.network.Private {
			if ip, ok := netip.AddrFromSlice(at); ok && reach(ip.Unmap()) < publicReach {
				continue // of no use to strangers
			}
		}
		switch {
		case transportRank(a) == rankWS:
			f.Multiaddrs = append(f.Multiaddrs, a)
		case !plain:
		case ip.Is4() && reach(ip) > reach(f.IP4):
			f.IP4, f.TCP = ip, port
		case ip.Is6() && reach(ip) > reach(f.IP6):
			f.IP6, f.TCP6 = ip, port
		}
	}
	if at := n.cfg.recordIP(); at.Is4() && !f.IP4.IsValid() {
		f.IP4 = at
	}
	return f, nil
}

// tcpAddr takes an address of plain TCP apart.
func tcpAddr(a ma.Multiaddr) (ip netip.Addr, port uint16, plain bool) {
	if len(a) != 2 || transportRank(a) != rankTCP {
		return ip, 0, false
	}
	na, err := manet.ToNetAddr(a)
	if err != nil {
		return ip, 0, false
	}
	at, err := netip.ParseAddrPort(na.String())
	if err != nil || at.Addr().Zone() != "" {
		return ip, 0, false
	}
	return at.Addr().Unmap(), at.Port(), true
}

// carrierNAT are the addresses that providers give to customers who share one
// (RFC 6598).
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// publicReach is the reach of an address of the internet.
const publicReach = 4

// reach orders IP addresses by how far away they can be dialled from.
func reach(ip netip.Addr) int {
	switch {
	case !ip.IsValid(), ip.IsUnspecified():
		return 0
	case ip.IsLoopback():
		return 1
	case ip.IsLinkLocalUnicast():
		return 2
	case ip.IsPrivate(), carrierNAT.Contains(ip):
		return 3
	}
	return publicReach
}
