package postgres

import (
	"context"
	"math"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// dialling makes a configuration's connections known to the link.
func (l *link) dialling(c *pgx.ConnConfig) *pgx.ConnConfig {
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !l.mayDial(ctx) {
			return nil, errAway
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return l.track(ctx, conn)
	}
	if c.ConnectTimeout == 0 || c.ConnectTimeout > dialFor {
		c.ConnectTimeout = dialFor
	}
	return c
}

// probing marks the context of those who may dial a server that is away.
type probing struct{}

func (l *link) mayDial(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && (l.up || ctx.Value(probing{}) != nil)
}

// tracked is a connection that cut closes.
type tracked struct {
	net.Conn
	link *link
}

func (t *tracked) Close() error {
	t.link.mu.Lock()
	delete(t.link.conns, t)
	t.link.mu.Unlock()
	return t.Conn.Close()
}

func (l *link) track(ctx context.Context, conn net.Conn) (net.Conn, error) {
	t := &tracked{conn, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || !l.up && ctx.Value(probing{}) == nil {
		conn.Close()
		return nil, errAway
	}
	l.conns[t] = struct{}{}
	return t, nil
}

// cut closes all connections, whatever is under way on them.
func (l *link) cut() {
	l.mu.Lock()
	conns := make([]net.Conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

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
