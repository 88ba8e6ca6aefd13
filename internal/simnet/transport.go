package simnet

// Transport is what carries a stream's bytes, as far as it costs. TestCalibration
// measures the values with real hosts.
type Transport struct {
	Name string
	// Frame is what is added to each write: the multiplexer's header and the
	// encryption's.
	Frame int
	// Room is how many bytes of frames a packet carries, Header what the packet's
	// headers are, below IP included nothing.
	Room, Header int
	// Ack is a packet that only acknowledges, and AckEvery how many packets one
	// of them answers.
	Ack, AckEvery int
	// Setup is what a connection costs each side to make, in bytes sent:
	// handshakes and identify.
	Setup int
	// RoundTrips is how often a connection goes there and back before it serves.
	RoundTrips int
}

// TCP is Noise and yamux over TCP and IPv4, what Waku nodes speak with each other: a
// write is one yamux frame (12 bytes) in one Noise message (2 and 16 bytes), and
// begins a packet of its own (TCP_NODELAY). Packets have 20 bytes of IP, 20 of TCP and
// 12 of time stamps.
func TCP() Transport {
	return Transport{
		Name: "tcp", Frame: 30, Room: 1448, Header: 52, Ack: 52, AckEvery: 2, Setup: 3000, RoundTrips: 4,
	}
}

// QUIC is QUIC over UDP and IPv4: a short header with an authentication tag, and
// a stream frame's header, in each packet; 28 bytes of IP and UDP.
func QUIC() Transport {
	return Transport{
		Name: "quic", Frame: 0, Room: 1250, Header: 28 + 29, Ack: 28 + 29, AckEvery: 2, Setup: 5500, RoundTrips: 3,
	}
}

// Cost is what n bytes written at once add: for the sender, packets included, and as
// acknowledgements from the receiver.
func (t *Transport) Cost(n int) (packets, sent, acked int) {
	framed := n + t.Frame
	packets = (framed + t.Room - 1) / t.Room
	return packets, t.Frame + packets*t.Header, (packets + t.AckEvery - 1) / t.AckEvery * t.Ack
}
