package main

import (
	"context"
	"strings"
	"time"
	"unicode"
)

const (
	// worryAfter is how long trouble may last before it is talked about.
	worryAfter = 4 * time.Second
	// worryPause is how long one sentence about it stands before the next.
	worryPause = 10 * time.Second
)

// worry says why nobody hears us: when that has lasted, and when the reason changes.
type worry struct {
	since time.Time // zero: all is well
	said  string
	at    time.Time
}

// look returns the sentence to say now; empty: none.
func (w *worry) look(now time.Time, s status) string {
	if s.why == "" {
		*w = worry{}
		return ""
	}
	if w.since.IsZero() {
		w.since = now
	}
	if now.Sub(w.since) < worryAfter || w.said != "" && now.Sub(w.at) < worryPause || wordsOf(s.why) == w.said {
		return ""
	}
	w.said, w.at = wordsOf(s.why), now
	return s.why
}

// wordsOf leaves out numbers: that one node more is tried is no news.
func wordsOf(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, text)
}

// worryAloud says it in lines, until ctx ends.
func worryAloud(ctx context.Context, r *room, note notices) {
	var w worry
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if why := w.look(time.Now(), r.status()); why != "" {
				note.say("nobody hears you: %s", why)
			}
		case <-ctx.Done():
			return
		}
	}
}
