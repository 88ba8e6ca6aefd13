package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/status-im/shoal/message"
	"github.com/status-im/shoal/store"
)

func small(t *testing.T, args ...string) options {
	t.Helper()
	o, err := parse(append([]string{"-rows", "5000"}, args...))
	require.NoError(t, err)
	return o
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"-quick"})
	require.NoError(t, err)
	require.Equal(t, 50_000, o.rows)
	require.Equal(t, 5000, small(t, "-quick").rows, "what is given counts")
	require.Equal(t, []string{sqlite, today}, small(t, "-backends", "sqlite,baseline").backends)
	require.True(t, small(t).wants(asking))
	o = small(t, "-only", "clients")
	require.True(t, o.wants(storming) && !o.wants(asking) && !o.wants(inserting))
	o = small(t, "-reuse", "somewhere")
	require.Equal(t, []string{postgres}, o.backends)
	require.False(t, o.wants(inserting), "what is kept stays as it is")
	for _, bad := range [][]string{{"-backends", "oracle"}, {"-only", "fun"}, {"-rows", "3"}, {"-days", "0"}, {"-seed", "x"}, {"more"}} {
		_, err := parse(bad)
		require.Error(t, err, "%v", bad)
	}
}

// The messages are what an archive takes, come out the same for the same number,
// ascend, and follow Zipf's law.
func TestWorkload(t *testing.T) {
	now := time.Now()
	w := newWorkload(small(t), now)
	policy := (&bench{load: w}).policy()
	count := map[string]int{}
	var last int64
	for i := range w.rows {
		e := w.entry(i)
		require.NoError(t, policy.CheckEntries([]store.Entry{e}, now))
		require.GreaterOrEqual(t, e.Message.Timestamp, last)
		last = e.Message.Timestamp
		count[e.Message.ContentTopic]++
	}
	require.Less(t, last, now.UnixNano())
	require.Equal(t, w.entry(7), w.entry(7))
	require.Len(t, w.entry(7).Message.Payload, payloadSize)
	require.Len(t, w.entry(7).Message.Meta, message.MaxMetaLen)
	require.NotEqual(t, w.entry(7).Message.Payload, w.live(7).Message.Payload)
	// With a thousand topics the first has 13 % and the tenth 1.3 %.
	require.InEpsilon(t, 0.134*5000, count[w.topics[0]], 0.2)
	require.InEpsilon(t, 0.0134*5000, count[w.topics[9]], 0.5)
}

func TestQuestions(t *testing.T) {
	b := &bench{options: small(t)}
	b.load = newWorkload(b.options, time.Now())
	for _, q := range []question{
		b.load.hashes(10), b.load.hashes(100), b.load.times(time.Hour, true, true), b.load.times(24*time.Hour, false, false),
	} {
		for range 20 {
			asked := q.ask(b.source(q, 1))
			checked, err := asked.Check()
			require.NoError(t, err)
			require.Len(t, checked.ContentTopics, len(asked.ContentTopics), "none is asked for twice")
			nothing, err := b.load.nothing(checked).Check()
			require.NoError(t, err)
			require.Less(t, len(nothing.Hashes), 2)
			if len(asked.Hashes) == 0 {
				require.True(t, nothing.End.Before(b.load.start))
				require.Equal(t, asked.End.Sub(asked.Start), nothing.End.Sub(nothing.Start))
			}
		}
		require.Equal(t, q.ask(b.source(q, 3)), q.ask(b.source(q, 3)), "every system is asked the same")
		require.NotEqual(t, q.ask(b.source(q, 3)), q.ask(b.source(q, 4)))
	}
}

func TestPercentile(t *testing.T) {
	var s samples
	require.True(t, math.IsNaN(s.percentile(50)))
	for _, i := range rand.Perm(100) {
		s.add(time.Duration(i+1) * time.Millisecond)
	}
	require.Equal(t, 100, s.count())
	require.Equal(t, 50.0, s.percentile(50))
	require.Equal(t, 99.0, s.percentile(99))
	require.Equal(t, 100.0, s.percentile(100))
}

func TestReport(t *testing.T) {
	r := newReport(small(t))
	r.add(today, oneNode, 3000, "/s")
	r.add(postgres, oneNode, 12_345, "/s")
	r.add(postgres, "10 hashes p95", 11, "ms")
	r.add(sqlite, "nothing", math.NaN(), "ms")
	var text, data bytes.Buffer
	require.NoError(t, r.writeJSON(&data))
	old := new(report)
	require.NoError(t, json.Unmarshal(data.Bytes(), old))
	r.write(&text, old)
	line := func(begins string) string {
		for l := range strings.Lines(text.String()) {
			if strings.HasPrefix(l, begins) {
				return strings.Join(strings.Fields(strings.TrimPrefix(l, begins)), " ")
			}
		}
		return ""
	}
	require.Equal(t, "3,000 12,345 4.12 - /s", line(oneNode))
	require.Equal(t, "12,345 >= 10,000 met", line("postgres: insert, 1 node (/s)"))
	require.Equal(t, "4.12 >= 3.00 met", line("postgres: insert, 1 node, times that of baseline"))
	require.Equal(t, "11.0 <= 10.0 NOT MET", line("postgres: 10 hashes p95 (ms)"))
	require.Equal(t, "- >= 3,000 not measured", line("sqlite: insert, batches of 50 (/s)"))
	require.Regexp(t, `\npostgres: insert, 1 node \(/s\) +12,345 +12,345 +1\.00`, text.String())
}

// Of a larger data set, cold and warm answers may take twice as long; others are
// shown.
func TestReportGrowth(t *testing.T) {
	before, large := newReport(small(t)), newReport(small(t, "-rows", "50000"))
	for _, name := range []string{"10 hashes p95", warm + "10 hashes p95", cold + "10 hashes p95", warm + "10 hashes: CPU"} {
		before.add(postgres, name, 2, "ms")
		large.add(postgres, name, 7, "ms")
	}
	large.Figures[1].Value = 4
	var text bytes.Buffer
	large.write(&text, before)
	require.Regexp(t, `\npostgres: 10 hashes p95 \(ms\) +2\.00 +7\.00 +3\.50 *\n`, text.String())
	require.Regexp(t, `\npostgres: warm: 10 hashes p95 \(ms\) +2\.00 +4\.00 +2\.00 +met\n`, text.String())
	require.Regexp(t, `\npostgres: cold: 10 hashes p95 \(ms\) +2\.00 +7\.00 +3\.50 +NOT MET: <= 2\n`, text.String())
	require.Regexp(t, `\npostgres: warm: 10 hashes: CPU \(ms\) +2\.00 +7\.00 +3\.50 *\n`, text.String())
}

func TestFirstErrorEndsAll(t *testing.T) {
	err := inParallel(t.Context(), 3, func(ctx context.Context) error {
		if ctx.Err() == nil {
			return message.ErrEmptyPayload
		}
		<-ctx.Done()
		return ctx.Err()
	})
	require.ErrorIs(t, err, message.ErrEmptyPayload)
	require.NoError(t, inParallel(t.Context(), 3, func(context.Context) error { return nil }))
}

func TestCPUTime(t *testing.T) {
	ours, all, ok := cpuTime()
	if !ok {
		t.Skip("this system doesn't say")
	}
	require.Positive(t, all)
	require.LessOrEqual(t, ours, all)
}
