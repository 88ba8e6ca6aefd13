package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/libp2p/go-libp2p/core/peer"
)

// timeline writes what happens and when: in a terminal as lines for people, else each
// as an object of JSON.
type timeline struct {
	began  time.Time
	people bool

	mu    sync.Mutex
	w     io.Writer
	known map[string]bool // who has been heard, and by whom
}

// moment is one line. At is in seconds since the start.
type moment struct {
	At   float64 `json:"at"`
	What string  `json:"what"`
	Peer string  `json:"peer,omitempty"`
	Text string  `json:"text,omitempty"`
	Addr string  `json:"addr,omitempty"`
}

func newTimeline(f *os.File) *timeline {
	return &timeline{began: time.Now(), people: term.IsTerminal(f.Fd()), w: f, known: map[string]bool{}}
}

func (t *timeline) moment(what string, p peer.ID, text string) {
	t.write(moment{What: what, Peer: p.String(), Text: text})
}

// message shows what somebody said, and who handed it over. People see the first of each.
func (t *timeline) message(from peer.ID, text, addr string) {
	who, _, _ := strings.Cut(text, ":")
	key := who + " " + addr
	t.mu.Lock()
	first := !t.known[key] && len(t.known) < 1000
	if first {
		t.known[key] = true
	}
	t.mu.Unlock()
	if first || !t.people {
		t.write(moment{What: "message", Peer: from.String(), Text: text, Addr: addr})
	}
}

// said tells of a message of our own.
func (t *timeline) said(n int) {
	if n == 1 || !t.people {
		t.write(moment{What: "said", Text: fmt.Sprint(n)})
	}
}

func (t *timeline) write(m moment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Since(t.began).Seconds()
	if !t.people {
		m.At = at
		_ = json.NewEncoder(t.w).Encode(m) // nobody reads any more
		return
	}
	var rest []string
	for _, s := range []string{m.Peer, m.Text, m.Addr} {
		if s != "" {
			rest = append(rest, s)
		}
	}
	text := peerIDs.ReplaceAllStringFunc(strings.Join(rest, "  "), short)
	fmt.Fprintf(t.w, "%7.1f s  %-26s %s\n", at, m.What, text)
}

// peerIDs are the names of peers with secp256k1 keys, which all of Waku's have.
var peerIDs = regexp.MustCompile(`\b16Uiu2[0-9A-Za-z]{40,}`)

// short is the end of a peer's name, which is where they differ.
func short(p string) string { return "…" + p[len(p)-8:] }
