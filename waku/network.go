package waku

import (
	"fmt"

	"github.com/status-im/shoal/message"
)

// Network is what the nodes of a network agree on. Change a copy for a network
// of your own.
type Network struct {
	// Name labels the network in errors and logs.
	Name string
	// Cluster is the network's number; nodes of other clusters are
	// disconnected (66/WAKU2-METADATA). Zero is the global network, in which
	// go-waku doesn't ask who belongs.
	Cluster uint16
	// MaxMessageSize is the largest encoded message in bytes. Zero:
	// message.DefaultMaxSize.
	MaxMessageSize int
}

// Local is a network of nodes that find each other by what the program tells
// them: it contacts nobody. It uses Status's cluster number and size limit, so
// that what works here works there.
var Local = Network{Name: "local", Cluster: 16, MaxMessageSize: message.LargeMaxSize}

// String returns the name and cluster.
func (n Network) String() string { return fmt.Sprintf("%s (cluster %d)", n.Name, n.Cluster) }
