package reqresp_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/status-im/shoal/internal/reqresp"
)

// A stranger's words fit on one line of a log.
func TestPrintable(t *testing.T) {
	assert.Equal(t, "slow down, über  ", reqresp.Printable("slow down, über\n\x1b"))
	assert.Equal(t, "ab", reqresp.Printable("a\xffb"))
	assert.Len(t, reqresp.Printable(strings.Repeat("x", 10_000)), reqresp.MaxWords)
	half := strings.Repeat("x", reqresp.MaxWords-1) + "ü"
	assert.Equal(t, strings.Repeat("x", reqresp.MaxWords-1), reqresp.Printable(half), "no half letter at the end")
}

// When to come back survives the way through a description, bounded.
func TestRetryAfter(t *testing.T) {
	desc := reqresp.WithRetryAfter("too many requests", 1500*time.Millisecond)
	assert.Equal(t, "too many requests, retry after 1.5s", desc)
	assert.Equal(t, 1500*time.Millisecond, reqresp.RetryAfter(desc, time.Minute))
	assert.Equal(t, time.Second, reqresp.RetryAfter(desc, time.Second))
	assert.Equal(t, "x, retry after 1ms", reqresp.WithRetryAfter("x", time.Nanosecond), "never at once")
	assert.Equal(t, "x", reqresp.WithRetryAfter("x", 0))
	for _, s := range []string{"", "retry after", "retry after soon", "retry after -5s", "come back later"} {
		assert.Zero(t, reqresp.RetryAfter(s, time.Minute), s)
	}
}
