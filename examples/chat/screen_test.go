package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/assert"

	"github.com/status-im/shoal/waku"
)

// fake is a room without a network.
type fake struct {
	status_ status
	states  []waku.DeliveryStatus
	err     error
	heard   []string
}

func (f *fake) status() status { return f.status_ }

func (f *fake) say(_ context.Context, text string) (iter.Seq[waku.DeliveryStatus], error) {
	f.heard = append(f.heard, text)
	return slices.Values(f.states), f.err
}

func shown(u *ui) string { return ansi.Strip(u.View().Content) }

func typed(t *testing.T, u *ui, text string) tea.Cmd {
	t.Helper()
	for _, r := range text {
		u.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
	}
	_, cmd := u.Update(tea.KeyPressMsg{Code: tea.KeyEnter})
	return cmd
}

func newTestUI(f *fake, width, height int) *ui {
	u := makeUI(context.Background(), f, "ana", "16/128  /shoal-chat/1/lobby/json")
	u.Init()
	u.Update(tea.WindowSizeMsg{Width: width, Height: height})
	u.Update(statusMsg(f.status_))
	return u
}

func TestOwnMessageShowsAtOnce(t *testing.T) {
	f := &fake{states: []waku.DeliveryStatus{{State: waku.Queued}, {State: waku.Propagated, Peers: 3}, {State: waku.Stored}}}
	u := newTestUI(f, 80, 20)
	cmd := typed(t, u, "hello")
	assert.Contains(t, shown(u), "ana  hello  …")
	assert.Empty(t, f.heard, "sending must not hold up the screen")
	for _, mark := range []string{"…", "✓ 3", "✓✓"} {
		_, cmd = u.Update(cmd())
		assert.Contains(t, shown(u), "ana  hello  "+mark)
	}
	assert.Nil(t, cmd())
	assert.Equal(t, []string{"hello"}, f.heard)
}

func TestFailuresShow(t *testing.T) {
	f := &fake{states: []waku.DeliveryStatus{{State: waku.Failed, Err: waku.ErrNobody}}}
	u := newTestUI(f, 80, 20)
	u.Update(typed(t, u, "anybody?")())
	assert.Contains(t, shown(u), "anybody?  ✗")
	assert.Contains(t, shown(u), "Not sent: waku: no relay peer")
	f.states = []waku.DeliveryStatus{{State: waku.Expired, Peers: 2}}
	u.Update(typed(t, u, "you two?")())
	assert.Contains(t, shown(u), "you two?  ✓ 2, not stored")
	f.err = errors.New("the clock is wrong")
	u.Update(typed(t, u, "and now?")())
	assert.Contains(t, shown(u), "and now?  ✗")
	assert.Contains(t, shown(u), "Not sent: the clock is wrong")
}

func TestHeaderTellsPeersWayAndTrouble(t *testing.T) {
	f := &fake{status_: status{peers: 4, way: "mesh 3"}}
	u := newTestUI(f, 80, 20)
	assert.Contains(t, shown(u), "peers 4  mesh 3 ●")
	u.Update(statusMsg{peers: 2, way: servicePeers(&waku.LightHealth{ServicePeers: make([]waku.ServicePeer, 2)})})
	assert.Contains(t, shown(u), "peers 2  2 service peers ●")
	u.Update(statusMsg{peers: 2, way: servicePeers(&waku.LightHealth{ServicePeers: []waku.ServicePeer{{}, {Suspect: true}}})})
	assert.Contains(t, shown(u), "peers 2  1 service peer ●")
	u.Update(statusMsg{trouble: "connection refused"})
	assert.Contains(t, shown(u), "connection refused ○")
}

func TestSaysOnceWhyNobodyHears(t *testing.T) {
	u := newTestUI(&fake{}, 120, 20)
	alone := status{trouble: "no peers", why: "no peers: nobody of 3 nodes could be reached"}
	u.worry.since = time.Now().Add(-worryAfter)
	for range 3 {
		u.Update(statusMsg(alone))
	}
	assert.Equal(t, 1, strings.Count(shown(u), "Nobody hears you: no peers: nobody of 3 nodes could be reached"))
}

func TestScrollbackStaysWhereItIs(t *testing.T) {
	u := newTestUI(&fake{}, 80, 12)
	hear := func(i int) {
		u.Update(heardMsg{payload{"ben", fmt.Sprintf("message %d", i)}, time.Now()})
	}
	for i := range 40 {
		hear(i)
	}
	assert.Contains(t, shown(u), "message 39")
	u.Update(tea.KeyPressMsg{Code: tea.KeyPgUp})
	before := shown(u)
	assert.NotContains(t, before, "message 39")
	hear(40)
	assert.NotContains(t, shown(u), "message 40")
	assert.Contains(t, shown(u), "↓ 1 new")
	for range 5 {
		u.Update(tea.KeyPressMsg{Code: tea.KeyPgDown})
	}
	assert.Contains(t, shown(u), "message 40")
	assert.NotContains(t, shown(u), "new ·")
	for len(u.entries) < maxEntries {
		u.entries = append(u.entries, &entry{name: "ben", text: "more"})
	}
	hear(41)
	assert.LessOrEqual(t, len(u.entries), maxEntries)
	assert.Equal(t, "message 41", u.entries[len(u.entries)-1].text)
}

func TestMessagesAreShownInTheOrderOfSending(t *testing.T) {
	u := newTestUI(&fake{}, 80, 20)
	at := time.Now()
	u.Update(heardMsg{payload{"ben", "second"}, at.Add(time.Millisecond)})
	u.Update(heardMsg{payload{"ben", "first"}, at})
	assert.Less(t, strings.Index(shown(u), "first"), strings.Index(shown(u), "second"))
}

func TestPeopleAreListedAndBounded(t *testing.T) {
	u := newTestUI(&fake{status_: status{peers: 1, links: []string{"<peer.ID 16*abcdef>"}}}, 80, 20)
	u.Update(heardMsg{payload{"ben", "hello"}, time.Now()})
	assert.Contains(t, shown(u), "ben")
	assert.Contains(t, shown(u), "16*abcdef")
	for i := range 3 * maxPeople {
		u.seen(fmt.Sprint("stranger ", i), time.Now().Add(time.Duration(i)))
	}
	assert.LessOrEqual(t, len(u.people), maxPeople)
}

func TestEveryWindowSizeFits(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {10, 3}, {20, 5}, {40, 10}, {71, 24}, {72, 24}, {80, 24}, {200, 60}} {
		u := newTestUI(&fake{status_: status{peers: 1, trouble: strings.Repeat("trouble ", 10)}}, size[0], size[1])
		u.Update(heardMsg{payload{strings.Repeat("n", maxName), strings.Repeat("long ", 100)}, time.Now()})
		u.Update(heardMsg{payload{"你好", strings.Repeat("長", 300)}, time.Now()})
		if size[0] < 20 {
			continue // enough that it didn't panic
		}
		lines := strings.Split(shown(u), "\n")
		assert.LessOrEqual(t, len(lines), size[1], "%v", size)
		for _, line := range lines {
			assert.LessOrEqual(t, ansi.StringWidth(line), size[0], "%v: %q", size, line)
		}
	}
}

func TestCommands(t *testing.T) {
	f := &fake{}
	u := newTestUI(f, 80, 20)
	assert.Nil(t, typed(t, u, "/help"))
	assert.Contains(t, shown(u), "/quit leaves")
	assert.Nil(t, typed(t, u, "/dance"))
	assert.Contains(t, shown(u), "No such command: /dance")
	assert.Equal(t, tea.Quit(), typed(t, u, "/quit")())
	_, cmd := u.Update(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl})
	assert.Equal(t, tea.Quit(), cmd())
	assert.Empty(t, f.heard)
}
