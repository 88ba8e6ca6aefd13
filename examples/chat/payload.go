package main

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What is sent is JSON, for example {"name":"ana","text":"hello"}. The name is
// what its sender says: the community's key proves that a member wrote, not which.
type payload struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

const (
	maxName = 24   // characters
	maxText = 2000 // characters
	// maxPayload bounds what is read at all, in bytes.
	maxPayload = 16 << 10
)

// unknownName stands for who sends plain text, as other programs may.
const unknownName = "?"

var errPayload = errors.New("not a chat message")

func encode(p payload) []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // two strings can't fail
	}
	return b
}

// decode reads a stranger's payload and makes it safe to show.
func decode(b []byte) (payload, error) {
	if len(b) > maxPayload || !utf8.Valid(b) {
		return payload{}, errPayload
	}
	p := payload{Name: unknownName, Text: string(b)}
	if len(b) > 0 && b[0] == '{' {
		p = payload{}
		if json.Unmarshal(b, &p) != nil {
			return payload{}, errPayload
		}
	}
	p.Name, p.Text = clean(p.Name, maxName), clean(p.Text, maxText)
	if p.Name == "" || p.Text == "" {
		return payload{}, errPayload
	}
	return p, nil
}

// maxMarks is how many combining marks and joiners a character may carry.
const maxMarks = 4

// clean makes text one line that does nothing to a terminal: no control or
// formatting characters, no bidirectional overrides, no towers of accents, at
// most limit characters.
func clean(text string, limit int) string {
	const joiner = '\u200d' // holds emoji together
	var b strings.Builder
	room := 0 // for marks on the character before
	for _, r := range text {
		if limit == 0 {
			break
		}
		switch {
		case r == joiner || unicode.Is(unicode.M, r):
			if room == 0 {
				continue
			}
			room--
		case unicode.IsSpace(r):
			if b.Len() == 0 {
				continue
			}
			r, room = ' ', 0
		case r == utf8.RuneError || !unicode.IsPrint(r):
			continue
		default:
			room = maxMarks
		}
		b.WriteRune(r)
		limit--
	}
	return strings.TrimRight(b.String(), " ")
}
