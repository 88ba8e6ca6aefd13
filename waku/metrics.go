package waku

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/relay"
)

// collector reads a node's counters when it is asked, and keeps none of its own.
// Label values are ours or the application's, never a stranger's.
type collector struct{ node *Node }

var _ prometheus.Collector = collector{}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descPeers       = desc("waku_peers", "Connected peers that belong to the network.")
	descMesh        = desc("waku_relay_mesh_peers", "Peers in the shard's mesh.", "shard")
	descShardPeers  = desc("waku_relay_shard_peers", "Connected peers that announced the shard.", "shard")
	descDelivered   = desc("waku_relay_delivered_total", "Messages that passed the shard's rules.", "shard")
	descDuplicates  = desc("waku_relay_duplicates_total", "Copies of messages seen before.", "shard")
	descRefused     = desc("waku_relay_refused_total", "Messages the gate refused, by verdict or for want of room.", "shard", "result")
	descInspected   = desc("waku_relay_inspector_refused_total", "Messages and RPCs refused before the mesh knew of them.", "reason")
	descMessages    = desc("waku_relay_messages_total", "Messages from and to peers, copies included.", "shard", "direction")
	descBytes       = desc("waku_relay_bytes_total", "Bytes of encoded messages from and to peers, copies included.", "shard", "direction")
	descTopicBytes  = desc("waku_relay_content_topic_bytes_total", "Delivered bytes by content topic; other: topics that no reader asked for.", "shard", "content_topic")
	descControl     = desc("waku_relay_control_bytes_total", "Bytes of GossipSub control messages.", "kind", "direction")
	descDropped     = desc("waku_relay_dropped_rpcs_total", "RPCs that found a peer's queue full.")
	descCut         = desc("waku_relay_peers_cut_total", "Peers disconnected for what they sent.")
	descStreams     = desc("waku_streams_refused_total", "Streams that peers opened beyond their share, refused unread.")
	descLost        = desc("waku_reader_lost_messages_total", "Messages that slow readers lost.", "shard")
	descOutcome     = desc("waku_msg_validator_signed_outcome", "Messages of protected shards, by verdict.", "result")
	descOutcomeWhy  = desc("waku_msg_validator_signed_outcome_reasons", "Messages of protected shards, by shard, verdict and reason.", "shard", "result", "reason")
	descKeys        = desc("waku_shard_valid_keys", "Keys that count now on a protected shard.", "shard")
	descClock       = desc("waku_clock_suspect", "1 while the network disagrees with the node's clock.")
	descClockOffset = desc("waku_clock_offset_seconds", "How far the network's time is ahead while the clock is suspect.")
	descStuck       = desc("waku_validator_stuck_calls", "Calls of a plugged-in validator that were abandoned and still run.", "shard", "validator")
)

var (
	descArchiveState   = desc("waku_archive_state", "How the archive is: 0 ready, 1 spooling, 2 full, 3 damaged.")
	descArchivePending = desc("waku_archive_pending_messages", "Acknowledged messages on their way to the database.")
	descArchiveBytes   = desc("waku_archive_pending_bytes", "Bytes of acknowledged messages on their way to the database.")
	descArchive        = desc("waku_archive_messages_total", "Messages for the archive: kept (resumed among them), lost before they were kept, not for keeping.", "result")
	descArchiveGap     = desc("waku_archive_gap", "1 while messages of the shard may be missing in the archive.", "shard")
	descHistoryRefused = desc("waku_history_refused_total", "Messages from store nodes that weren't genuine.")
	descStoreAnswers   = desc("waku_store_answers_total", "Questions by what became of them.", "result")
	descStoreBytes     = desc("waku_store_answer_bytes_total", "Bytes of answers.")
)

var (
	descFilterBytes    = desc("waku_filter_bytes_total", "Bytes of pushed messages: in, as a light member; out, to light members.", "direction")
	descLightPushBytes = desc("waku_lightpush_bytes_total", "Bytes of light push requests: out, as a light member; in, from light members.", "direction")
)

var (
	descClassBytes    = desc("waku_class_bytes_total", "Bytes of encoded messages, copies included, by shard, class of message and protocol.", "shard", "class", "protocol", "direction")
	descClassMessages = desc("waku_class_messages_total", "Messages, copies included, by shard, class of message and protocol.", "shard", "class", "protocol", "direction")
	descDeliveries    = desc("waku_deliveries_total", "Messages sent, by the states they reached.", "shard", "state")
	descDelivering    = desc("waku_deliveries", "Messages on their way: queued, or propagated and not stored.", "shard", "state")
)

var (
	descKnown   = desc("waku_peers_known", "Peers known, connected or not, by how they were found.", "source")
	descFailing = desc("waku_peers_failing", "Known peers that couldn't be reached when last dialled.")
	descForeign = desc("waku_peers_foreign", "Known peers that turned out to be of another network.")
	descDials   = desc("waku_peer_dials_total", "Dials of peers that were found, by what became of them.", "result")
	descRecords = desc("waku_peer_records_refused_total", "What was heard of peers and not taken note of.", "reason")
	descBoth    = desc("waku_peer_records_ambiguous_total", "Records with both lists of shards, rs and rsv. Then rs counts.")
	descNamed   = desc("waku_peer_exchange_answers_total", "Questions for peers, by what became of them.", "code")
)

var (
	descReachability = desc("waku_nat_reachability", "Whether others can dial a node with WithNAT: 0 unknown, 1 public, 2 private.")
	descCircuits     = desc("waku_nat_circuits", "Circuits through which others can reach this node.")
	descRegistered   = desc("waku_nat_registrations", "Registrations of this node with rendezvous points.", "shard")
	descPunches      = desc("waku_nat_hole_punches_total", "Circuits by whether a direct connection came of them.", "result")

	descRelayReserved = desc("waku_circuit_relay_reservations", "Peers that others can reach through this node.")
	descRelayOpen     = desc("waku_circuit_relay_circuits", "Circuits through this node that are open.")
	descRelayGranted  = desc("waku_circuit_relay_reservations_total", "Reservations asked for, by what became of them; renewals aren't counted.", "result")
	descRelayOpened   = desc("waku_circuit_relay_circuits_total", "Circuits asked for: opened, or declined by a limit of rate.", "result")
	descRelayBytes    = desc("waku_circuit_relay_bytes_total", "Bytes that went through circuits, both directions together.")

	descPointHeld     = desc("waku_rendezvous_registrations", "Registrations that this rendezvous point holds.")
	descPointPeers    = desc("waku_rendezvous_peers", "Peers registered with this rendezvous point.")
	descPointRequests = desc("waku_rendezvous_requests_total", "Requests to this rendezvous point, by what became of them.", "result")
)

var allDescs = []*prometheus.Desc{
	descReachability, descCircuits, descRegistered, descPunches,
	descRelayReserved, descRelayOpen, descRelayGranted, descRelayOpened, descRelayBytes,
	descPointHeld, descPointPeers, descPointRequests,

	descPeers, descMesh, descShardPeers, descDelivered, descDuplicates, descRefused, descInspected,
	descMessages, descBytes, descTopicBytes, descControl, descDropped, descCut, descStreams, descLost, descOutcome,
	descOutcomeWhy, descKeys, descClock, descClockOffset, descStuck,
	descArchiveState, descArchivePending, descArchiveBytes, descArchive, descArchiveGap,
	descStoreAnswers, descStoreBytes, descHistoryRefused,
	descFilterBytes, descLightPushBytes, descDeliveries, descDelivering,
	descClassBytes, descClassMessages,
	descKnown, descFailing, descForeign, descDials, descRecords, descBoth, descNamed,
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range allDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	w := metricWriter{ch}
	n := c.node
	w.gauge(descPeers, float64(len(n.peers.proven())))
	stats := n.relay.Stats()
	for _, st := range stats.Shards {
		w.shard(st)
	}
	for reason, v := range stats.Refused {
		w.counter(descInspected, v, reason)
	}
	for kind, v := range stats.ControlIn {
		w.counter(descControl, v, kind, "in")
	}
	for kind, v := range stats.ControlOut {
		w.counter(descControl, v, kind, "out")
	}
	w.counter(descDropped, stats.DroppedRPCs)
	w.counter(descCut, stats.PeersCut)
	if r, ok := n.host.Network().ResourceManager().(*resources); ok {
		w.counter(descStreams, r.intake.refused.Load())
	}
	w.rules(n)
	clock := n.clock.health()
	suspect := 0.0
	if clock.Suspect {
		suspect = 1
	}
	w.gauge(descClock, suspect)
	w.gauge(descClockOffset, clock.Offset.Seconds())
	w.counter(descHistoryRefused, n.storeClient.Dropped())
	w.services(n)
	w.classes(n.Telemetry())
	w.discovery(n)
	w.nat(n)
	if h := n.archiver.health(); h != nil {
		w.archive(h)
	}
}

// discovery writes what looking for peers counted.
func (w metricWriter) discovery(n *Node) {
	st := n.discovery.book.Stats(time.Now())
	for source, known := range st.BySource {
		w.gauge(descKnown, float64(known), source.String())
	}
	w.gauge(descFailing, float64(st.Failing))
	w.gauge(descForeign, float64(st.Foreign))
	w.counter(descDials, st.Reached, "reached")
	w.counter(descDials, st.Failed, "failed")
	for reason, v := range st.Refused {
		w.counter(descRecords, v, reason)
	}
	w.counter(descBoth, st.Ambiguous)
	if n.exchange != nil {
		for code, v := range n.exchange.server.Stats().Answers {
			w.counter(descNamed, v, strconv.Itoa(int(code)))
		}
	}
}

// nat writes how others reach this node, and whom it helps to be reached.
func (w metricWriter) nat(n *Node) {
	if h := n.nat.health(); h != nil {
		w.gauge(descReachability, float64(h.Reachability))
		w.gauge(descCircuits, float64(len(h.Circuits)))
		for _, s := range n.shards.joined() {
			count := 0
			for _, r := range h.Registrations {
				if r.Shard == s.shard {
					count++
				}
			}
			w.gauge(descRegistered, float64(count), s.shard.String())
		}
		w.counter(descPunches, h.Punched, "direct")
		w.counter(descPunches, h.PunchFailed, "failed")
	}
	point, circuits := n.helper.stats()
	if circuits != nil {
		w.gauge(descRelayReserved, float64(circuits.Reservations))
		w.gauge(descRelayOpen, float64(circuits.Circuits))
		w.counter(descRelayGranted, circuits.Granted, "granted")
		w.counter(descRelayGranted, circuits.Refused, "refused")
		w.counter(descRelayOpened, circuits.Opened, "opened")
		w.counter(descRelayOpened, circuits.Declined, "declined")
		w.counter(descRelayBytes, circuits.Bytes)
	}
	if point != nil {
		w.gauge(descPointHeld, float64(point.Registrations))
		w.gauge(descPointPeers, float64(point.Peers))
		w.counter(descPointRequests, point.Registered, "registered")
		w.counter(descPointRequests, point.Renewed, "renewed")
		w.counter(descPointRequests, point.Unregistered, "unregistered")
		w.counter(descPointRequests, point.Discovered, "discovered")
		refused := uint64(0)
		for _, n := range point.Refused {
			refused += n
		}
		w.counter(descPointRequests, refused, "refused")
		w.counter(descPointRequests, point.Failed, "failed")
	}
}

// services writes what light members and service nodes counted.
func (w metricWriter) services(n *Node) {
	w.counter(descFilterBytes, n.filterClient.Stats().Bytes, "in")
	w.counter(descLightPushBytes, n.pushClient.Stats().Bytes+n.slowPushClient.Stats().Bytes, "out")
	if n.filterServer != nil {
		w.counter(descFilterBytes, n.filterServer.Stats().Bytes, "out")
	}
	if n.pushServer != nil {
		w.counter(descLightPushBytes, n.pushServer.Stats().Bytes, "in")
	}
}

// classes writes what each class of message costs.
func (w metricWriter) classes(t Telemetry) {
	for _, x := range t.Total {
		labels := func(direction string) []string {
			return []string{x.Shard.String(), x.Class.String(), x.Way.String(), direction}
		}
		w.counter(descClassBytes, x.BytesIn, labels("in")...)
		w.counter(descClassBytes, x.BytesOut, labels("out")...)
		w.counter(descClassMessages, x.MessagesIn, labels("in")...)
		w.counter(descClassMessages, x.MessagesOut, labels("out")...)
	}
}

func (w metricWriter) archive(h *ArchiveHealth) {
	w.gauge(descArchiveState, float64(h.State))
	w.gauge(descArchivePending, float64(h.Pending))
	w.gauge(descArchiveBytes, float64(h.PendingBytes))
	w.counter(descArchive, h.Kept, "kept")
	w.counter(descArchive, h.Resumed, "resumed")
	w.counter(descArchive, h.Lost, "lost")
	w.counter(descArchive, h.Unkept, "unkept")
	for _, s := range h.Shards {
		gap := 0.0
		if s.Gap != "" {
			gap = 1
		}
		w.gauge(descArchiveGap, gap, s.Shard.String())
	}
	a := h.Server
	w.counter(descStoreAnswers, a.Success, "success")
	w.counter(descStoreAnswers, a.BadResponse, "bad_response")
	w.counter(descStoreAnswers, a.BadRequest, "bad_request")
	w.counter(descStoreAnswers, a.TooManyRequests, "too_many_requests")
	w.counter(descStoreAnswers, a.Unavailable, "unavailable")
	w.counter(descStoreAnswers, a.Failed, "failed")
	w.counter(descStoreBytes, a.Bytes)
}

type metricWriter struct{ ch chan<- prometheus.Metric }

func (w metricWriter) counter(d *prometheus.Desc, v uint64, labels ...string) {
	w.write(d, prometheus.CounterValue, float64(v), labels)
}

func (w metricWriter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	w.write(d, prometheus.GaugeValue, v, labels)
}

func (w metricWriter) write(d *prometheus.Desc, t prometheus.ValueType, v float64, labels []string) {
	for i, text := range labels { // a content topic is whatever the application says
		labels[i] = strings.ToValidUTF8(text, "�")
	}
	w.ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
}

func (w metricWriter) shard(st relay.ShardStats) {
	s := st.Shard.String()
	w.counter(descDelivered, st.Delivered, s)
	w.counter(descDuplicates, st.Duplicates, s)
	w.counter(descRefused, st.Rejected, s, "reject")
	w.counter(descRefused, st.Ignored, s, "ignore")
	w.counter(descRefused, st.Overload, s, "overload")
	w.counter(descMessages, st.In, s, "in")
	w.counter(descMessages, st.Out, s, "out")
	w.counter(descBytes, st.BytesIn, s, "in")
	w.counter(descBytes, st.BytesOut, s, "out")
	w.counter(descLost, st.Lost, s)
	for topic, v := range st.TopicBytes {
		if topic != "" { // what holds the shard, see join
			w.counter(descTopicBytes, v, s, topic)
		}
	}
}

// rules writes what the shards' own rules counted.
func (w metricWriter) rules(n *Node) {
	byVerdict := map[string]uint64{"Accept": 0, "Ignore": 0, "Reject": 0}
	for _, s := range n.shards.all() {
		id := s.shard.String()
		w.gauge(descMesh, float64(s.mesh.Load()), id)
		w.gauge(descShardPeers, float64(len(n.relay.Peers(s.shard))), id)
		w.deliveries(s.outbox.health(), id)
		for _, p := range s.plugins {
			w.gauge(descStuck, float64(p.budget.Stuck()), id, p.budget.Name())
		}
		if !s.protected.Load() {
			continue
		}
		w.gauge(descKeys, float64(len(s.keys.Valid(n.cfg.now()))), id)
		for _, c := range s.signed.Counters().Snapshot() {
			result := outcome(c.Verdict)
			byVerdict[result] += c.N
			if c.N > 0 {
				w.counter(descOutcomeWhy, c.N, id, result, c.Reason.String())
			}
		}
	}
	for result, v := range byVerdict {
		w.counter(descOutcome, v, result)
	}
}

func (w metricWriter) deliveries(h OutgoingHealth, shard string) {
	for state, v := range map[DeliveryState]uint64{Propagated: h.Propagated, Stored: h.Stored, Failed: h.Failed, Expired: h.Expired} {
		w.counter(descDeliveries, v, shard, state.String())
	}
	w.gauge(descDelivering, float64(h.Queued), shard, Queued.String())
	w.gauge(descDelivering, float64(h.Unconfirmed), shard, Propagated.String())
}

// outcome is nwaku's name of a verdict.
func outcome(v message.Verdict) string {
	switch v {
	case message.Accept:
		return "Accept"
	case message.Reject:
		return "Reject"
	}
	return "Ignore"
}
