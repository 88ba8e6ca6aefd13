package waku

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// What the application gives us is called from goroutines that must go on: relay's
// event loop, for one. So a panic in it ends there.

// carefulClock falls back to the system's clock.
func carefulClock(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return func() (t time.Time) {
		defer func() {
			if recover() != nil {
				t = time.Now()
			}
		}()
		return now()
	}
}

func carefulLogger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(carefulHandler{l.Handler()})
}

// carefulHandler loses a line rather than the node.
type carefulHandler struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h carefulHandler) Enabled(ctx context.Context, level slog.Level) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return h.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h carefulHandler) Handle(ctx context.Context, r slog.Record) error {
	defer func() { _ = recover() }()
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h carefulHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return carefulHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h carefulHandler) WithGroup(name string) slog.Handler {
	return carefulHandler{h.Handler.WithGroup(name)}
}

// carefulResolver fails rather than panics.
type carefulResolver struct{ r Resolver }

// LookupTXT implements dnsdisc.Resolver.
func (c carefulResolver) LookupTXT(ctx context.Context, name string) (texts []string, err error) {
	defer func() {
		if v := recover(); v != nil {
			texts, err = nil, fmt.Errorf("the resolver panicked: %v", v)
		}
	}()
	return c.r.LookupTXT(ctx, name)
}
