package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/sharding"
	"github.com/status-im/shoal/waku"
)

// made is a walk that found a number of nodes, on so many shards.
func made(t *testing.T, nodes, shards int) *walker {
	t.Helper()
	node, err := waku.New(t.Context(), waku.WithListenAddrs())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, node.Close()) })
	w := newWalker(node, time.Minute)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range nodes {
		f := &found{Discovered: waku.Discovered{ID: peer.ID(fmt.Sprint("peer ", i)), Source: "discv5"}, State: state(rnd.IntN(int(states)))}
		if f.State == alive {
			f.Agent = fmt.Sprint("agent ", rnd.IntN(30))
			f.Capabilities = []string{"relay", "store"}[:1+rnd.IntN(2)]
		}
		cluster := uint16(16)
		if f.State == foreign {
			cluster = uint16(rnd.IntN(12))
		}
		for range rnd.IntN(4) {
			f.Shards = append(f.Shards, sharding.Shard{Cluster: cluster, Index: uint16(rnd.IntN(shards))})
		}
		w.order = append(w.order, f)
	}
	return w
}

// Whatever is found stays within the picture, and everybody who isn't left out for want
// of room is in it once.
func TestPictureHoldsAll(t *testing.T) {
	for _, c := range []struct{ nodes, shards int }{{0, 1}, {1, 1}, {40, 3}, {500, 8}, {2000, 900}, {maxNodes, 3}} {
		w := made(t, c.nodes, c.shards)
		began := time.Now()
		p := draw(w.report(waku.Health{}))
		t.Logf("%v: %v", c, time.Since(began))
		assert.LessOrEqual(t, len(p.Hubs), maxHubs)
		drawn := 0
		check := func(dots []dot) {
			for _, d := range dots {
				drawn++
				require.True(t, d.R > 0 && d.X-d.R >= 0 && d.X+d.R <= mapWidth && d.Y-d.R >= 0, "%v: %v", c, d.circle)
			}
		}
		for _, h := range p.Heaps {
			check(h.Dots)
			assert.LessOrEqual(t, math.Hypot(h.X-p.Ring.X, h.Y-p.Ring.Y), p.Ring.R+1)
		}
		aside := 0
		for _, f := range w.order {
			if f.State == foreign || len(f.Shards) == 0 {
				aside++
			}
		}
		assert.Equal(t, c.nodes-aside, drawn, "%v", c)
		for _, i := range p.Islands {
			check(i.Dots)
		}
	}
}

// Nothing that strangers say gets out of its place.
func TestPageEscapes(t *testing.T) {
	w := made(t, 20, 3)
	const nasty = "\"'><svg onload=alert(1)>\x1b[31m\u202e{{.}}--></script>"
	for _, f := range w.order {
		f.Agent, f.Why, f.Source, f.Capabilities, f.Addrs = nasty, nasty, nasty, []string{nasty}, []string{nasty}
	}
	r := w.report(waku.Health{Discovery: waku.DiscoveryHealth{Sources: []waku.SourceHealth{{Name: nasty, Failure: nasty}}}})
	file := filepath.Join(t.TempDir(), "page.html")
	require.NoError(t, writePage(file, r))
	page, err := os.ReadFile(file)
	require.NoError(t, err)
	for text, times := range map[string]int{
		"<script": 1, "<script>" + pageJS + "</script>": 1, // of which the page's rule knows the hash
		"<svg onload": 0, "\x1b": 0, "\u202e": 0, "ZgotmplZ": 0,
	} {
		assert.Equal(t, times, strings.Count(string(page), text), text)
	}
	assert.Regexp(t, `data-shards="h\d( h\d)*"`, string(page))

	var text bytes.Buffer
	p := printer{w: &text}
	p.report(r)
	require.NoError(t, p.err)
	assert.NotContains(t, text.String(), "\x1b")
	assert.NotContains(t, text.String(), "\u202e")
}

func TestPageReplacesWholly(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "page.html")
	r := made(t, 3, 3).report(waku.Health{})
	require.NoError(t, writePage(file, r))
	require.NoError(t, writePage(file, r))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 1)
	assert.ErrorContains(t, writePage(filepath.Join(dir, "none", "page.html"), r), "--html: ")
}

func TestTextFits(t *testing.T) {
	var text bytes.Buffer
	p := printer{w: &text, colour: true}
	p.report(made(t, maxNodes, 900).report(waku.Health{}))
	require.NoError(t, p.err)
	assert.Contains(t, text.String(), "… and ")
	for line := range strings.Lines(ansi.Strip(text.String())) {
		assert.LessOrEqual(t, ansi.StringWidth(strings.TrimRight(line, "\n")), 80, line)
	}
	p = printer{w: failing{}}
	p.report(made(t, 1, 1).report(waku.Health{}))
	assert.ErrorIs(t, p.err, io.ErrClosedPipe)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestProgress(t *testing.T) {
	w := made(t, 0, 1)
	w.order = []*found{{State: alive}, {State: dead}, {State: dead}, {}}
	w.dialling = 1
	line := w.tally().line(0, time.Minute)
	assert.Equal(t, "⠋ 0s of 1m0s · 4 found · 1 reachable · 2 unreachable · 1 being dialled", line)
	w.looking = false
	assert.Contains(t, w.tally().line(1, time.Minute), "⠙ the last dials · ")
}
