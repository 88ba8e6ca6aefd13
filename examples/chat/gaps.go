package main

import (
	"context"
	"fmt"
	"time"

	"github.com/status-im/shoal/waku"
)

// gaps says of which times messages may be missing, and that they have been read back from
// a store node, until ctx ends. What is read back is heard like everything else.
func (r *room) gaps(ctx context.Context, say func(string)) {
	for e := range r.node.Events(ctx) {
		if text := gapWords(e); text != "" {
			say(text)
		}
	}
}

func gapWords(e waku.Event) string {
	when := fmt.Sprintf("from %s to %s", e.From.Local().Format(time.TimeOnly), e.To.Local().Format(time.TimeOnly))
	if e.To.Sub(e.From) >= 24*time.Hour {
		when = fmt.Sprintf("from %s to %s", e.From.Local().Format(time.DateTime), e.To.Local().Format(time.DateTime))
	}
	switch e.Kind {
	case waku.GapOpen:
		return fmt.Sprintf("messages %s may be missing: %s", when, clean(e.Reason, 200))
	case waku.GapFilled:
		return fmt.Sprintf("messages %s have been read back (%s)", when, clean(e.Reason, 200))
	}
	return ""
}
