package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"
)

const (
	// patience is how long the first message waits for somebody to hear it.
	patience = 20 * time.Second
	// farewell is left for the last message to get out: gossip has no receipts.
	farewell = time.Second
)

// lines connects a room with a pipe: lines in are messages, messages are lines out.
func lines(ctx context.Context, r *room, in io.Reader, out io.Writer, note notices, stay bool) error {
	for _, addr := range r.node.Addrs() {
		note.say("listening on %s", addr)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()

	messages := r.hear(ctx)
	wg.Go(func() {
		defer cancel() // nobody reads our output any more, or the node is closed
		write(ctx, messages, out, note)
	})
	connected := make(chan struct{})
	wg.Go(func() {
		if r.ready(ctx) {
			note.say("connected")
			close(connected)
		}
	})
	wg.Go(func() { worryAloud(ctx, r, note) })
	wg.Go(func() { r.gaps(ctx, func(text string) { note.say("%s", text) }) })
	input := make(chan string)
	go read(ctx, in, input, note)

	sent, unheard := 0, 0
	for {
		var line string
		var more bool
		select {
		case <-ctx.Done():
			return nil
		case line, more = <-input:
		}
		switch {
		case more:
		case stay:
			<-ctx.Done()
			return nil
		default:
			return end(ctx, sent, unheard)
		}
		text := clean(line, maxText)
		if text == "" {
			continue
		}
		if sent == 0 {
			select {
			case <-connected:
			case <-ctx.Done():
			case <-time.After(patience):
				note.say("still alone after %v: %s", patience, r.status().trouble)
			}
		}
		err := r.tell(ctx, text)
		sent++
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			unheard++
			note.say("not sent: %v", err)
		}
	}
}

// sorting is how long a line waits for one that was sent before it: gossip keeps
// no order.
const sorting = 200 * time.Millisecond

// write writes what is heard, in the order in which it was sent.
func write(ctx context.Context, messages iter.Seq2[heard, uint64], out io.Writer, note notices) {
	arrived := make(chan heard)
	go func() {
		defer close(arrived)
		for h, lost := range messages {
			if lost > 0 {
				note.say("%d messages were lost", lost)
				continue
			}
			select {
			case arrived <- h:
			case <-ctx.Done():
				return
			}
		}
	}()
	var waiting []heard
	var due <-chan time.Time
	for {
		select {
		case h, more := <-arrived:
			if !more {
				return
			}
			if waiting = append(waiting, h); due == nil {
				due = time.After(sorting)
			}
		case <-due:
			slices.SortStableFunc(waiting, func(a, b heard) int { return a.at.Compare(b.at) })
			for _, h := range waiting {
				if _, err := fmt.Fprintf(out, "%s: %s\n", h.Name, h.Text); err != nil {
					return
				}
			}
			waiting, due = waiting[:0], nil
		}
	}
}

func end(ctx context.Context, sent, unheard int) error {
	if sent > unheard {
		select {
		case <-ctx.Done():
		case <-time.After(farewell):
		}
	}
	if unheard > 0 {
		return fmt.Errorf("%d of %d messages reached nobody", unheard, sent)
	}
	return nil
}

// read ends with the input. A Read that blocks outlives ctx: the program's end
// ends it.
func read(ctx context.Context, in io.Reader, input chan<- string, note notices) {
	defer close(input)
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 64<<10)
	for scanner.Scan() {
		select {
		case input <- scanner.Text():
		case <-ctx.Done():
			return
		}
	}
	if err := scanner.Err(); err != nil {
		note.say("input: %v", err)
	}
}
