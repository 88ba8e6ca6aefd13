package reqresp

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// MaxWords is how much of a peer's description is kept, in bytes.
const MaxWords = 256

// retryAfter: descriptions are free text, and the only place where a server can say
// when to come back. Ours ends in these words and a duration, "retry after 250ms".
const retryAfter = "retry after "

// Printable makes a stranger's words fit for a log line: MaxWords at most, one line.
func Printable(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), MaxWords)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// WithRetryAfter ends a description with when to come back, if that is a time at all.
func WithRetryAfter(desc string, wait time.Duration) string {
	if wait <= 0 {
		return desc
	}
	return fmt.Sprintf("%s, %s%v", desc, retryAfter, max(wait.Round(time.Millisecond), time.Millisecond))
}

// RetryAfter is when a description says to come back, most at the most. Zero: it
// doesn't say.
func RetryAfter(desc string, most time.Duration) time.Duration {
	i := strings.LastIndex(desc, retryAfter)
	if i < 0 {
		return 0
	}
	d, err := time.ParseDuration(strings.TrimSpace(desc[i+len(retryAfter):]))
	if err != nil {
		return 0
	}
	return min(max(d, 0), most)
}
