package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"charm.land/bubbles/v2/textinput"
	"charm.land/bubbles/v2/viewport"
	tea "charm.land/bubbletea/v2"

	"github.com/status-im/shoal/waku"
)

// screen runs the room in a terminal until the user leaves or ctx ends.
func screen(ctx context.Context, r *room) error {
	ctx, cancel := context.WithCancel(ctx)
	program := tea.NewProgram(newUI(ctx, r), tea.WithContext(ctx))
	messages := r.hear(ctx)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		for h, lost := range messages {
			if lost > 0 {
				program.Send(noticeMsg(fmt.Sprintf("%d messages were lost", lost)))
				continue
			}
			program.Send(heardMsg(h))
		}
	}()
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		r.gaps(ctx, func(text string) { program.Send(noticeMsg(text)) })
	}()
	_, err := program.Run()
	cancel()
	<-listening
	<-reading
	if errors.Is(err, tea.ErrProgramKilled) || errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// talker is what the screen needs of a room.
type talker interface {
	say(ctx context.Context, text string) (iter.Seq[waku.DeliveryStatus], error)
	status() status
}

type (
	heardMsg  heard
	noticeMsg string
	statusMsg status
	sentMsg   struct {
		entry  *entry
		status waku.DeliveryStatus
		err    error                              // it wasn't even queued
		next   func() (waku.DeliveryStatus, bool) // what becomes of it
	}
)

// entry is one line of the chat, or a notice.
type entry struct {
	at         time.Time
	name, text string // no name: a notice
	own        bool
	mark       string // what became of an own message
	failed     bool

	width int // lines are wrapped to this
	lines []string
}

const (
	maxEntries = 2000 // of scrollback
	maxPeople  = 200  // names remembered
)

// ui is the program's state; bubbletea calls it from one goroutine.
type ui struct {
	ctx    context.Context
	room   talker
	name   string
	where  string
	status status
	worry  worry

	entries []*entry
	people  map[string]time.Time
	unseen  int // messages below the part in view

	width, height int
	view          viewport.Model
	input         textinput.Model
}

func newUI(ctx context.Context, r *room) *ui {
	where := fmt.Sprintf("%s  %s", r.member.Shard(), r.topic)
	return makeUI(ctx, r, r.name, where)
}

func makeUI(ctx context.Context, room talker, name, where string) *ui {
	u := &ui{
		ctx:    ctx,
		room:   room,
		name:   name,
		where:  where,
		people: map[string]time.Time{},
		view:   viewport.New(),
		input:  textinput.New(),
	}
	u.input.Prompt = name + " › "
	u.input.Placeholder = "say something"
	u.input.CharLimit = maxText
	u.input.SetVirtualCursor(false)
	u.view.FillHeight = true
	u.note("Welcome. Your messages carry a mark: … on the way, ✓ and the number of peers that were handed it, ✓✓ stored.")
	return u
}

// Init implements tea.Model.
func (u *ui) Init() tea.Cmd { return tea.Batch(u.input.Focus(), u.look()) }

// look asks for the room's state, now and every second from then on.
func (u *ui) look() tea.Cmd {
	return func() tea.Msg { return statusMsg(u.room.status()) }
}

// Update implements tea.Model.
func (u *ui) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		u.resize(msg.Width, msg.Height)
		return u, nil
	case statusMsg:
		u.status = status(msg)
		if why := u.worry.look(time.Now(), u.status); why != "" {
			u.note("Nobody hears you: " + why)
		}
		return u, tea.Tick(time.Second, func(time.Time) tea.Msg { return statusMsg(u.room.status()) })
	case heardMsg:
		u.seen(msg.Name, msg.at)
		u.add(&entry{at: msg.at, name: msg.Name, text: msg.Text})
		return u, nil
	case noticeMsg:
		u.note(string(msg))
		return u, nil
	case sentMsg:
		u.sent(msg)
		return u, follow(msg.entry, msg.next)
	case tea.KeyPressMsg:
		return u, u.key(msg)
	}
	var scroll, edit tea.Cmd
	u.view, scroll = u.view.Update(msg)
	u.input, edit = u.input.Update(msg)
	return u, tea.Batch(scroll, edit)
}

func (u *ui) key(msg tea.KeyPressMsg) tea.Cmd {
	switch msg.String() {
	case "ctrl+c":
		return tea.Quit
	case "ctrl+d":
		if u.input.Value() == "" {
			return tea.Quit
		}
	case "enter":
		return u.enter()
	case "pgup":
		u.view.PageUp()
		return nil
	case "pgdown":
		u.view.PageDown()
		u.caughtUp()
		return nil
	case "up":
		u.view.ScrollUp(1)
		return nil
	case "down":
		u.view.ScrollDown(1)
		u.caughtUp()
		return nil
	}
	var cmd tea.Cmd
	u.input, cmd = u.input.Update(msg)
	return cmd
}

func (u *ui) enter() tea.Cmd {
	text := clean(u.input.Value(), maxText)
	u.input.Reset()
	switch {
	case text == "":
		return nil
	case text == "/quit":
		return tea.Quit
	case text == "/help":
		u.note("/quit leaves. PgUp, PgDn and the arrows scroll. Everything else is said.")
		return nil
	case strings.HasPrefix(text, "/"):
		u.note("No such command: " + text + ". There are /help and /quit.")
		return nil
	}
	e := &entry{at: time.Now(), name: u.name, text: text, own: true, mark: "…"}
	u.add(e)
	u.view.GotoBottom()
	u.unseen = 0
	return func() tea.Msg {
		states, err := u.room.say(u.ctx, text)
		if err != nil {
			return sentMsg{entry: e, err: err}
		}
		next, _ := iter.Pull(states) // it ends with the program, if not before
		return follow(e, next)()
	}
}

// follow waits for the next state of a message.
func follow(e *entry, next func() (waku.DeliveryStatus, bool)) tea.Cmd {
	if next == nil {
		return nil
	}
	return func() tea.Msg {
		s, more := next()
		if !more {
			return nil
		}
		return sentMsg{entry: e, status: s, next: next}
	}
}

func (u *ui) sent(msg sentMsg) {
	err := msg.err
	switch msg.status.State {
	case waku.Propagated:
		msg.entry.mark = fmt.Sprintf("✓ %d", msg.status.Peers)
	case waku.Stored:
		msg.entry.mark = "✓✓"
	case waku.Expired:
		msg.entry.mark = fmt.Sprintf("✓ %d, not stored", msg.status.Peers)
	case waku.Failed:
		err = msg.status.Err
	}
	if err != nil {
		msg.entry.mark, msg.entry.failed = "✗", true
		u.note("Not sent: " + clean(err.Error(), 300))
	}
	msg.entry.width = 0
	u.draw()
}

func (u *ui) note(text string) { u.add(&entry{at: time.Now(), text: text}) }

// add puts an entry at its time, among the last ones: gossip keeps no order.
func (u *ui) add(e *entry) {
	i := len(u.entries)
	for i > 0 && i > len(u.entries)-10 && u.entries[i-1].at.After(e.at) {
		i--
	}
	u.entries = slices.Insert(u.entries, i, e)
	if len(u.entries) > maxEntries {
		u.entries = append([]*entry(nil), u.entries[maxEntries/4:]...)
	}
	if !u.view.AtBottom() && e.name != "" {
		u.unseen++
	}
	u.draw()
}

// seen remembers who was here; of too many the one who was silent longest goes.
func (u *ui) seen(name string, at time.Time) {
	u.people[name] = at
	if len(u.people) <= maxPeople {
		return
	}
	oldest := name
	for n, t := range u.people {
		if t.Before(u.people[oldest]) {
			oldest = n
		}
	}
	delete(u.people, oldest)
}

func (u *ui) caughtUp() {
	if u.view.AtBottom() {
		u.unseen = 0
	}
}
