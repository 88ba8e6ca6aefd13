package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestShow(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out bytes.Buffer
	held, err := show(ctx, newPrinter(&out, false), 0)
	require.NoError(t, err, "%s", &out)
	assert.True(t, held, "%s", &out)
	assert.NotContains(t, out.String(), "FAIL")
	assert.NotContains(t, out.String(), "\x1b", "no colour unless asked for")
	assert.Equal(t, 13, strings.Count(out.String(), "PASS  "), "%s", &out)
}

// Without the key at the fleet node the demo must see that its claims don't hold.
func TestShowFailsWithoutProtection(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	unprotected, err := newTown(ctx, false)
	require.NoError(t, err)
	defer unprotected.close()
	var out bytes.Buffer
	unprotected.p, unprotected.patience = newPrinter(&out, true), 300*time.Millisecond
	held, err := unprotected.play(ctx)
	require.NoError(t, err, "%s", &out)
	assert.False(t, held, "%s", &out)
	assert.Contains(t, out.String(), "of the stranger's 112 messages no member got any", "members judge for themselves")
	failed := strings.Count(out.String(), "FAIL")
	assert.Equal(t, 7, failed, "four kinds, the cut, the witness, the archive: %s", &out)
}

func TestEndsEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := show(ctx, newPrinter(&bytes.Buffer{}, false), 0)
	require.ErrorIs(t, err, context.Canceled)
}

func TestBadInput(t *testing.T) {
	for _, args := range [][]string{{"--colour"}, {"--pace"}, {"--pace", "slow"}, {"--pace", "-1s"}, {"--pace", "1m"}, {"now"}} {
		_, err := parse(args, true)
		require.Error(t, err, args)
		assert.Contains(t, err.Error(), "--pace")
		assert.NotContains(t, err.Error(), "\n")
	}
}
