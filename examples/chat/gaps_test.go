package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/status-im/shoal/waku"
)

func TestGapsAreToldInWords(t *testing.T) {
	from := time.Date(2026, 11, 22, 10, 0, 0, 0, time.Local)
	e := waku.Event{Kind: waku.GapOpen, From: from, To: from.Add(5 * time.Minute), Reason: "the machine slept; no store peer"}
	assert.Equal(t, "messages from 10:00:00 to 10:05:00 may be missing: the machine slept; no store peer", gapWords(e))
	e = waku.Event{Kind: waku.GapFilled, From: from, To: from.Add(48 * time.Hour), Reason: "the node was away"}
	assert.Equal(t, "messages from 2026-11-22 10:00:00 to 2026-11-24 10:00:00 have been read back (the node was away)", gapWords(e))
	assert.Empty(t, gapWords(waku.Event{Kind: waku.KeyAdded}))
}
