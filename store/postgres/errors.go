package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/status-im/shoal/store"
)

// NewerSchemaError says that the tables were made by a later version of this
// package.
type NewerSchemaError struct {
	// Version is the tables', Known the latest that this package knows.
	Version, Known int
}

// Error implements error.
func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("postgres: the tables are of version %d, this package knows %d: update it", e.Version, e.Known)
}

// The SQLSTATEs that are told apart. Texts are for people, and translated.
const (
	stateCheckViolation = "23514" // also: no partition for a row
	stateUndefinedTable = "42P01"
	stateNoPrivilege    = "42501"
	stateNoDatabase     = "3D000"
	stateNoSchema       = "3F000"
	stateLockTimeout    = "55P03"
	stateAdminShutdown  = "57P01"
	stateCrashShutdown  = "57P02"
	stateStarting       = "57P03"
)

// sqlState is the server's code of an error, "" if it isn't the server's.
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// answered tells whether an outcome shows that the server lives.
func answered(err error) bool {
	if err == nil || errors.Is(err, pgx.ErrNoRows) {
		return true
	}
	s := sqlState(err)
	return s != "" && !goingDown(s)
}

func goingDown(state string) bool {
	return state == stateAdminShutdown || state == stateCrashShutdown || state == stateStarting
}

// broken tells whether an error ended a connection, or came of one that had ended.
func broken(err error) bool {
	if err == nil || errors.Is(err, pgx.ErrNoRows) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	s := sqlState(err)
	return s == "" || goingDown(s) || strings.HasPrefix(s, "08")
}

// refused tells whether a server that was reached will never do: whoever started
// us has to change something.
func refused(err error) bool {
	var newer *NewerSchemaError
	switch s := sqlState(err); s {
	case stateNoPrivilege, stateNoDatabase, stateNoSchema:
		return true
	default:
		return strings.HasPrefix(s, "28") || errors.As(err, &newer)
	}
}

// poison tells whether the database refused rows for their own sake.
func poison(err error) bool {
	s := sqlState(err)
	switch {
	case s == stateCheckViolation:
		return false
	case strings.HasPrefix(s, "22"), strings.HasPrefix(s, "23"), strings.HasPrefix(s, "54"):
		return true
	}
	return false
}

// contended tells whether a statement lost to another and is to be tried again.
func contended(err error) bool {
	s := sqlState(err)
	return s == stateLockTimeout || strings.HasPrefix(s, "40")
}

// failed is what a call tells of an error: that it is at an end itself, or else
// that the archive can't answer now.
func (a *Archive) failed(ctx context.Context, err error) error {
	switch {
	case a.ctx.Err() != nil:
		return net.ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, store.ErrUnavailable):
		return err
	}
	// The cause's own kind isn't passed on: a time that was up within is not the
	// caller's.
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}
