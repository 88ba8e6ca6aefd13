//go:build nat && linux

package natlab

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	dosguard "github.com/status-im/shoal/rln-free-dos"
)

// transport is what the nodes of a lab listen on, and all that they have.
type transport string

const (
	tcp  transport = "TCP"
	quic transport = "QUIC"
)

var transports = []transport{tcp, quic}

func (x transport) addr(ip string, port int) string {
	if x == quic {
		return fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", ip, port)
	}
	return fmt.Sprintf("/ip4/%s/tcp/%d", ip, port)
}

// community is whom a lab is built for.
type community struct {
	*lab
	over    transport
	keyFile string
	public  string
	dir     string
}

func newCommunity(t *testing.T, over transport) *community {
	t.Helper()
	key, err := dosguard.GenerateKey()
	require.NoError(t, err)
	c := &community{
		lab: newLab(t), over: over, dir: t.TempDir(),
		public: hex.EncodeToString(key.PublicKey().Bytes()),
	}
	c.keyFile = filepath.Join(c.dir, "community.key")
	require.NoError(t, os.WriteFile(c.keyFile, []byte(key.Hex()+"\n"), 0o600))
	return c
}

// relayer is a node of the community on the internet: rendezvous point and circuit relay
// by default, and a service node for light members.
type relayer struct {
	*program
	space *space
	ip    string
	addr  string
	id    string
	args  []string
}

const metrics = "127.0.0.1:9090"

func (c *community) relayer(t *testing.T, s *space, ip string, more ...string) *relayer {
	t.Helper()
	r := &relayer{space: s, ip: ip, args: append([]string{
		"--network", "own", "--shards", "128", "--protected-shard", "128=" + c.public,
		"--listen", c.over.addr(ip, 30303), "--ws-listen", "", "--nodekey-file", filepath.Join(c.dir, ip+".key"),
		"--filter", "--lightpush",
	}, more...)}
	r.start(t)
	return r
}

// start starts it, again perhaps: with the same identity and addresses.
func (r *relayer) start(t *testing.T) {
	t.Helper()
	r.program = r.space.program(t, "servicenode", r.args...)
	ready := r.await(t, 0, time.Minute, "ready", func(m moment) bool { return m.Event == "ready" })
	require.Len(t, ready.Addresses, 1)
	r.addr, r.id = ready.Addresses[0], ready.PeerID
}

// metric reads one of the relayer's numbers.
func (r *relayer) metric(t *testing.T, name string) float64 {
	t.Helper()
	var c net.Conn
	require.NoError(t, r.space.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", metrics, 10*time.Second)
		return err
	}))
	defer c.Close()
	fmt.Fprintf(c, "GET /metrics HTTP/1.0\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			return n
		}
	}
	require.Fail(t, "the relayer has no metric "+name)
	return 0
}

// member is somebody at home.
type member struct {
	*program
	home *home
	id   string
}

// member starts a node at home, which knows the relayers and nobody else.
func (c *community) member(t *testing.T, h *home, name string, relayers ...*relayer) *member {
	t.Helper()
	return c.memberWith(t, h, name, nil, relayers...)
}

// memberWith starts one with more arguments.
func (c *community) memberWith(t *testing.T, h *home, name string, more []string, relayers ...*relayer) *member {
	t.Helper()
	var addrs []string
	for _, r := range relayers {
		addrs = append(addrs, r.addr)
	}
	m := &member{home: h, program: h.machine.program(t, "holepunch", append([]string{
		"--peer", strings.Join(addrs, ","), "--listen", c.over.addr("0.0.0.0", port),
		"--name", name, "--key-file", c.keyFile, "--every", "500ms"}, more...)...)}
	m.id = m.await(t, 0, time.Minute, "its start", func(x moment) bool { return x.What == "started" }).Peer
	return m
}

// called is the member's name.
func (m *member) called() string { return m.home.machine.Name() }

// direct fits the moment in which a connection with other is there that nobody relays.
func direct(other *member) func(moment) bool {
	return func(x moment) bool {
		return x.What == "peer connected" && x.Peer == other.id && strings.HasPrefix(x.Addr+x.Text, "/ip4/"+other.home.public+"/")
	}
}

// directly fits a message that other has handed over itself.
func directly(other *member) func(moment) bool {
	return func(x moment) bool {
		return x.What == "message" && x.Peer == other.id && strings.HasPrefix(x.Addr, "/ip4/"+other.home.public+"/")
	}
}

func what(word string) func(moment) bool { return func(x moment) bool { return x.What == word } }

func from(name string) func(moment) bool {
	return func(x moment) bool { return x.What == "message" && strings.HasPrefix(x.Text, name+":") }
}
