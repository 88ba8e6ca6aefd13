package main

import (
	"fmt"
	"hash/fnv"
	"sort"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

var (
	dim    = lipgloss.NewStyle().Faint(true)
	bold   = lipgloss.NewStyle().Bold(true)
	header = lipgloss.NewStyle().Reverse(true)
	good   = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	bad    = lipgloss.NewStyle().Foreground(lipgloss.Color("1"))
	// names are told apart by colours that stand out on light and dark ground.
	names = []string{"1", "2", "3", "4", "5", "6", "9", "10", "12", "13", "14"}
)

const (
	sideWidth = 20 // of the list of people
	sideFrom  = 72 // columns from which there is one
	frame     = 4  // lines that aren't chat: header, rule, input, hints
)

func nameStyle(name string) lipgloss.Style {
	h := fnv.New32a()
	h.Write([]byte(name))
	return lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Color(names[h.Sum32()%uint32(len(names))]))
}

func (u *ui) resize(width, height int) {
	u.width, u.height = width, height
	u.view.SetHeight(max(1, height-frame))
	u.view.SetWidth(max(10, u.chatWidth()))
	u.input.SetWidth(max(1, width-lipgloss.Width(u.input.Prompt)-1))
	u.draw()
}

func (u *ui) chatWidth() int {
	if u.width >= sideFrom {
		return u.width - sideWidth - 1
	}
	return u.width
}

// draw puts the entries into the viewport, and stays at the bottom if it was there.
func (u *ui) draw() {
	if u.width == 0 {
		return
	}
	bottom := u.view.AtBottom()
	var lines []string
	for _, e := range u.entries {
		lines = append(lines, e.wrapped(u.view.Width())...)
	}
	u.view.SetContentLines(lines)
	if bottom {
		u.view.GotoBottom()
	}
}

// wrapped returns the entry's lines, the text hanging behind time and name.
func (e *entry) wrapped(width int) []string {
	if e.width == width {
		return e.lines
	}
	head := dim.Render(e.at.Format("15:04")) + "  "
	text := e.text
	switch {
	case e.name == "":
		text = dim.Italic(true).Render(text)
	case e.own:
		head += bold.Render(e.name) + "  "
	default:
		head += nameStyle(e.name).Render(e.name) + "  "
	}
	indent := lipgloss.Width(head)
	if indent > width/2 {
		indent = 2
		text = head + text
		head = ""
	}
	if e.mark != "" {
		style := good
		if e.failed {
			style = bad
		}
		text += "  " + style.Faint(!e.failed).Render(e.mark)
	}
	lines := strings.Split(lipgloss.Wrap(text, max(8, width-indent), ""), "\n")
	for i := range lines {
		switch {
		case i == 0:
			lines[i] = head + lines[i]
		default:
			lines[i] = strings.Repeat(" ", indent) + lines[i]
		}
	}
	e.width, e.lines = width, lines
	return lines
}

// View implements tea.Model.
func (u *ui) View() tea.View {
	v := tea.NewView("")
	v.AltScreen = true
	v.WindowTitle = "shoal chat"
	v.MouseMode = tea.MouseModeCellMotion
	if u.width == 0 {
		return v
	}
	body := u.view.View()
	if u.width >= sideFrom {
		body = lipgloss.JoinHorizontal(lipgloss.Top, body, " ", u.side())
	}
	content := []string{u.header(), body, dim.Render(strings.Repeat("─", u.width)), u.input.View(), u.hints()}
	v.SetContent(strings.Join(content, "\n"))
	if c := u.input.Cursor(); c != nil {
		c.Y += u.height - 2
		v.Cursor = c
	}
	return v
}

func (u *ui) header() string {
	left := " shoal chat  " + u.where
	right := fmt.Sprintf("peers %d  %s ● ", u.status.peers, u.status.way)
	if u.status.trouble != "" {
		right = u.status.trouble + " ○ "
	}
	room := u.width - lipgloss.Width(left)
	if room < lipgloss.Width(right)+2 { // too narrow for both: how it is matters more
		left, room = " ", u.width-1
	}
	right = cut(right, room)
	return header.Render(left + strings.Repeat(" ", max(0, room-lipgloss.Width(right))) + right)
}

func (u *ui) side() string {
	var who []string
	for name := range u.people {
		who = append(who, name)
	}
	sort.Slice(who, func(i, j int) bool {
		a, b := u.people[who[i]], u.people[who[j]]
		return a.After(b) || a.Equal(b) && who[i] < who[j]
	})
	rows := []string{dim.Render("here lately"), bold.Render(u.name)}
	for _, name := range who {
		rows = append(rows, nameStyle(name).Render(cut(name, sideWidth)))
	}
	links := []string{"", dim.Render("connected to")}
	for _, id := range u.status.links {
		links = append(links, dim.Render(cut(strings.TrimSuffix(strings.TrimPrefix(id, "<peer.ID "), ">"), sideWidth)))
	}
	if len(u.status.links) == 0 {
		links = append(links, dim.Render("nobody"))
	}
	height := u.view.Height()
	if free := height - len(links); len(rows) > max(2, free) {
		rows = rows[:max(2, free)]
	}
	rows = append(rows, links...)
	return lipgloss.NewStyle().Width(sideWidth).MaxHeight(height).Render(strings.Join(rows, "\n"))
}

func (u *ui) hints() string {
	hints := "Enter says it · PgUp PgDn scroll · /help · Ctrl+C leaves"
	if u.unseen > 0 {
		return bold.Render(cut(fmt.Sprintf("↓ %d new · %s", u.unseen, hints), u.width))
	}
	return dim.Render(cut(hints, u.width))
}

// cut shortens text to a number of columns.
func cut(text string, width int) string {
	if lipgloss.Width(text) <= width {
		return text
	}
	for r := []rune(text); len(r) > 0; r = r[:len(r)-1] {
		if s := string(r) + "…"; lipgloss.Width(s) <= width {
			return s
		}
	}
	return ""
}
