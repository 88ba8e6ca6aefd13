package postgres

import (
	"context"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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

// pool makes a pool of connections that the link knows, with settings of ours.
func (l *link) pool(base *pgxpool.Config, conns int, settings string) (*pgxpool.Pool, error) {
	c := base.Copy()
	c.ConnConfig = l.dialling(c.ConnConfig)
	c.MaxConns = int32(min(conns, math.MaxInt32))
	c.MinConns, c.MinIdleConns = 0, 0
	after := c.AfterConnect
	c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if after != nil {
			if err := after(ctx, conn); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, settings)
		return err
	}
	return pgxpool.NewWithConfig(context.Background(), c)
}

// do runs something on the database, which ends when the server is away. Without
// a server it isn't begun.
func (a *Archive) do(ctx context.Context, f func(ctx context.Context) error) error {
	inner, s, err := a.link.begin(ctx)
	if err != nil {
		return err
	}
	err = f(inner)
	s.over(err)
	if sqlState(err) == stateUndefinedTable {
		a.link.lose(err) // somebody dropped our tables, or put back older ones
	}
	return err
}

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
