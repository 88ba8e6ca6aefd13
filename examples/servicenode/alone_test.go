package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/status-im/shoal/waku"
)

func TestSaysWhyItIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 65*time.Second)
		defer cancel()
		var text bytes.Buffer
		looks := 0
		logAlone(ctx, func() waku.Health {
			looks++
			return []waku.Health{
				{Summary: "no peers: DNS failed"}, {Summary: "no peers: DNS failed"}, {Summary: "no peers: nobody answers"},
				{Peers: 1, Summary: "all is well"}, {Summary: "no peers: nobody answers"}, {Summary: "no peers: nobody answers"},
			}[looks-1]
		}, slog.New(slog.NewTextHandler(&text, nil)))
		assert.Equal(t, 6, looks)
		assert.Equal(t, 1, strings.Count(text.String(), "DNS failed"), "once is enough")
		assert.Equal(t, 2, strings.Count(text.String(), "nobody answers"), "when it comes back too")
	})
}
