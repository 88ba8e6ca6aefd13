package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/exampletest"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

var program string

func TestMain(m *testing.M) {
	dir, remove, err := exampletest.Programs("holepunch")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "holepunch")
	code := m.Run()
	remove()
	os.Exit(code)
}

// On one machine there is nothing to punch through; make test-nat has routers. Here the
// program says that nobody can dial it, and talks by the relayer.
func TestTellsItsStory(t *testing.T) {
	key, err := dosguard.GenerateKey()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "community.key")
	require.NoError(t, os.WriteFile(file, []byte(key.Hex()+"\n"), 0o600))
	relayer, err := waku.New(t.Context(), waku.WithNetwork(waku.Network{Name: "own", Cluster: 16}), waku.WithListenAddrs("/ip4/127.0.0.1/tcp/0"))
	require.NoError(t, err)
	defer relayer.Close()
	community := waku.Community{Shard: sharding.Shard{Cluster: 16, Index: 128}, PublicKey: key.PublicKey()}
	hall, err := relayer.Join(t.Context(), community, waku.SignWith(key))
	require.NoError(t, err)

	cmd := exec.Command(program, "--peer", relayer.Addrs()[0], "--listen", "/ip4/127.0.0.1/tcp/0",
		"--key-file", file, "--name", "ana", "--every", "50ms")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	kill := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer kill.Stop()
	told := map[string]moment{}
	var answer *waku.Delivery
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var m moment
		require.NoError(t, json.Unmarshal(lines.Bytes(), &m))
		if told[m.What] = m; m.What == "said" && answer == nil {
			d, err := hall.Send(t.Context(), topic, []byte("bea: good evening"))
			require.NoError(t, err)
			answer = d
		}
		if m.What == "message" {
			break
		}
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
	assert.Equal(t, "bea: good evening", told["message"].Text)
	assert.Equal(t, relayer.PeerID().String(), told["message"].Peer)
	assert.Contains(t, relayer.Addrs()[0], told["message"].Addr)
	assert.Empty(t, told["started"].Text, "on the internet addresses of a machine's own mean nothing")
	assert.Contains(t, told["reachability changed"].Text, "private: ")
	assert.Equal(t, relayer.PeerID().String(), told["peer connected"].Peer)
	assert.Contains(t, told, "health")
}

func TestTimeline(t *testing.T) {
	id, err := peer.Decode("16Uiu2HAm1gvQ4ruSgHYsUbmTjrn8foMZMnPSrC9RFTH6d8Txea3q")
	require.NoError(t, err)
	var b bytes.Buffer
	people := &timeline{began: time.Now(), people: true, w: &b, known: map[string]bool{}}
	people.moment("hole punched", id, "/ip4/11.0.0.1/tcp/1")
	people.moment("circuit connected", "", "/ip4/11.0.0.2/tcp/1/p2p/"+id.String()+"/p2p-circuit")
	for n := range 3 {
		people.message(id, "bea: hello", "/ip4/11.0.0.1/tcp/1")
		people.message(id, "bea: hello", "/ip4/11.0.0.2/tcp/1")
		people.said(n + 1)
	}
	assert.Equal(t, "    0.0 s  hole punched               …d8Txea3q  /ip4/11.0.0.1/tcp/1\n"+
		"    0.0 s  circuit connected          /ip4/11.0.0.2/tcp/1/p2p/…d8Txea3q/p2p-circuit\n"+
		"    0.0 s  message                    …d8Txea3q  bea: hello  /ip4/11.0.0.1/tcp/1\n"+
		"    0.0 s  message                    …d8Txea3q  bea: hello  /ip4/11.0.0.2/tcp/1\n"+
		"    0.0 s  said                       1\n", b.String())
}
