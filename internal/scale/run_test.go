package scale_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/internal/p2ptest"
	"github.com/status-im/shoal/internal/scale"
)

func TestMain(m *testing.M) { p2ptest.Leaks(m) }

func run(t *testing.T, cfg scale.Config) (r *scale.Result) {
	t.Helper()
	p2ptest.Bubble(t, func(t *testing.T) {
		var err error
		r, err = scale.Run(context.Background(), cfg)
		require.NoError(t, err)
	})
	return r
}

func TestEverybodyGetsEverything(t *testing.T) {
	r := run(t, scale.Config{Members: 50, Rate: 2, Settle: 20 * time.Second, Load: 10 * time.Second})
	t.Logf("%+v", r)
	t.Logf("%+v", r.Roles[scale.Member])
	require.Zero(t, r.Missing)
	require.Zero(t, r.Twice)
}
