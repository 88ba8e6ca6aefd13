package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/status-im/shoal/waku"
)

// lookEach is how often is looked whether the node is alone.
const lookEach = 10 * time.Second

// logAlone says why the node has no peers, when that has lasted and when the reason
// changes, until ctx ends.
func logAlone(ctx context.Context, health func() waku.Health, log *slog.Logger) {
	tick := time.NewTicker(lookEach)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		switch h := health(); {
		case h.Peers > 0:
			said = ""
		case h.Summary != said:
			said = h.Summary
			log.Warn("alone", "why", said)
		}
	}
}
