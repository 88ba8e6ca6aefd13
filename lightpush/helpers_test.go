package lightpush_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/wire"
	"github.com/status-im/shoal/lightpush"
	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/sharding"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

var shard = sharding.Shard{Cluster: 16, Index: 32}

const topic = "/waku/2/rs/16/32"

// hello is the message of the vectors.
func hello() *message.Message {
	return &message.Message{
		Payload:      []byte("hello"),
		ContentTopic: "/waku/1/0x9c22ff5f/rfc26",
		Timestamp:    1_700_000_000_123_456_789,
	}
}

// large is a message whose encoding has so many bytes.
func large(size int) *message.Message {
	m := hello()
	m.Payload = make([]byte, size)
	m.Payload = m.Payload[:2*size-m.Size()] // the lengths of the lengths are the same
	return m
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(s))
	if err != nil {
		panic(err)
	}
	return b
}

type vectors struct {
	Requests []struct {
		Name, Hex, ID string
		Version       int
		Ours          bool
	}
	Responses []struct {
		Name, Hex, Desc, ID string
		Version             int
		Ours                bool
		Code                lightpush.StatusCode
		Peers               int
	}
}

func loadVectors(t testing.TB) (v vectors) {
	b, err := os.ReadFile("testdata/wire.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Requests)
	require.NotEmpty(t, v.Responses)
	return v
}

// protocolOf is the name of a version.
func protocolOf(version int) protocol.ID {
	if version == 2 {
		return lightpush.LegacyID
	}
	return lightpush.ID
}

func lengthed(num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

// push is a request as it stands on the wire. Nil: not there.
func push(version int, id, topic, m []byte) []byte {
	optional := func(num protowire.Number, v []byte) []byte {
		if v == nil {
			return nil
		}
		return lengthed(num, v)
	}
	if version == 2 {
		inner := append(optional(1, topic), optional(2, m)...)
		return append(optional(1, id), lengthed(2, inner)...)
	}
	return bytes.Join([][]byte{optional(1, id), optional(20, topic), optional(21, m)}, nil)
}

// reply is a response taken apart.
type reply struct {
	id, desc string
	code     uint64 // of version 2: 1 for success, 0 otherwise
	peers    int64  // -1: not there
}

// parse insists on what others need to find.
func parse(t testing.TB, version int, b []byte) reply {
	r := reply{peers: -1}
	found := map[protowire.Number]bool{}
	read := func(b []byte, set func(num protowire.Number, bytes []byte, v uint64)) {
		for len(b) > 0 {
			num, typ, n := protowire.ConsumeTag(b)
			require.Positive(t, n)
			b = b[n:]
			var (
				bytes []byte
				v     uint64
			)
			if typ == protowire.BytesType {
				bytes, n = protowire.ConsumeBytes(b)
			} else {
				v, n = protowire.ConsumeVarint(b)
			}
			require.Positive(t, n)
			b = b[n:]
			set(num, bytes, v)
		}
	}
	if version == 2 {
		read(b, func(num protowire.Number, b []byte, _ uint64) {
			switch num {
			case 1:
				r.id = string(b)
			case 3:
				read(b, func(num protowire.Number, b []byte, v uint64) {
					found[num] = true
					switch num {
					case 1:
						r.code = v
					case 2:
						r.desc = string(b)
					}
				})
			}
		})
		require.True(t, found[1] && found[2], "is_success and info are always there")
	} else {
		read(b, func(num protowire.Number, b []byte, v uint64) {
			found[num] = true
			switch num {
			case 1:
				r.id = string(b)
			case 10:
				r.code = v
			case 11:
				r.desc = string(b)
			case 12:
				r.peers = int64(v)
			}
		})
		require.True(t, found[10] && found[11], "status_code and status_desc are always there")
		require.Equal(t, r.code == 200, found[12], "relay_peer_count belongs to a success")
	}
	require.NotEmpty(t, r.id)
	require.LessOrEqual(t, len(r.desc), 256)
	return r
}

// pair is a client and a server host in a bubble, connected.
func pair(t *testing.T, f func(t *testing.T, client, server host.Host)) {
	p2ptest.Bubble(t, func(t *testing.T) {
		hosts := p2ptest.Hosts(t, 2)
		p2ptest.Line(t, hosts)
		f(t, hosts[0], hosts[1])
	})
}

// both runs f for each version.
func both(t *testing.T, f func(t *testing.T, version int)) {
	for version, name := range map[int]string{3: "v3", 2: "v2"} {
		t.Run(name, func(t *testing.T) { f(t, version) })
	}
}

// to is a relayer that hands everything to so many peers.
func to(peers int) lightpush.Relayer {
	return func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { return peers, nil }
}

// failing is a relayer that returns an error.
func failing(err error) lightpush.Relayer {
	return func(context.Context, peer.ID, sharding.Shard, *message.Message) (int, error) { return 0, err }
}

// serve takes pushes on h until the test ends.
func serve(t testing.TB, h host.Host, r lightpush.Relayer, cfg lightpush.ServerConfig) *lightpush.Server {
	s := lightpush.NewServer(h, r, cfg)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// only leaves the server one version.
func only(h host.Host, version int) {
	h.RemoveStreamHandler(protocolOf(5 - version))
}

// answerBy lets h answer requests of a version with bytes of its own making.
func answerBy(h host.Host, version int, f func(request []byte) []byte) {
	h.SetStreamHandler(protocolOf(version), func(s network.Stream) {
		b, err := wire.ReadFrame(s, 4<<20)
		if err != nil {
			s.Reset()
			return
		}
		wire.WriteFrame(s, f(b))
		s.Close()
	})
}

// ask sends a request as it stands and returns the response as it stands.
func ask(t testing.TB, from, to host.Host, version int, request []byte) []byte {
	s, err := p2ptest.OpenStream(t.Context(), from, to.ID(), protocolOf(version))
	require.NoError(t, err)
	defer s.Reset()
	require.NoError(t, wire.WriteFrame(s, request))
	b, err := wire.ReadFrame(s, 1<<20) // our side stays open
	require.NoError(t, err)
	_, err = s.Read(make([]byte, 1))
	require.ErrorContains(t, err, "EOF", "js-waku reads to the end")
	return b
}

// idOf is a request's id.
func idOf(request []byte) []byte {
	_, _, n := protowire.ConsumeField(request)
	id, _ := protowire.ConsumeBytes(request[1:n:n])
	return id
}

// fast is a client without a rate of its own.
var fast = lightpush.ClientConfig{Rate: -1, LegacyRate: -1}
