package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

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
	assert.Equal(t, 11, strings.Count(out.String(), "PASS  "), "%s", &out)
}

func TestEndsEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := show(ctx, newPrinter(&bytes.Buffer{}, false), 0)
	require.ErrorIs(t, err, context.Canceled)
}
