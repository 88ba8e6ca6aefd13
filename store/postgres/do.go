package postgres

import (
	"context"
)

// otherConns are connections for upkeep and marks, beside those of WriteConns.
const otherConns = 4

// turnstile lets one through at a time: what takes long must not take all
// connections.
type turnstile chan struct{}

func newTurnstile() turnstile { return make(turnstile, 1) }

func (t turnstile) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turnstile) give() { <-t }

// tries is how often something is tried when connections break: all that are idle
// may have, when a server was away for a moment.
const tries = 5

// again is do for what may be run twice: if the connection breaks and the server
// lives, it is.
func (a *Archive) again(ctx context.Context, f func(ctx context.Context) error) error {
	err := a.do(ctx, f)
	for range tries - 1 {
		if !broken(err) || ctx.Err() != nil || !a.link.alive(ctx) {
			break
		}
		err = a.do(ctx, f)
	}
	return err
}
