package waku

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/status-im/shoal/message"
	dosguard "github.com/status-im/shoal/rln-free-dos"
	"github.com/status-im/shoal/sharding"
)

const (
	maxStuck = 16
	// troubleEvery is how often a plugged-in validator may be in the events.
	troubleEvery = time.Minute
	// pluginCloseWait is how long Close waits for calls that don't end.
	pluginCloseWait = time.Second
)

// plugin is a validator of the application's, kept from doing harm.
type plugin struct {
	node   *Node
	shard  sharding.Shard
	budget *dosguard.Budget

	mu   sync.Mutex
	told time.Time
}

func newPlugin(n *Node, c *validatorConfig) *plugin {
	return &plugin{node: n, shard: c.shard, budget: dosguard.NewBudget(c.v, dosguard.BudgetConfig{
		Name:      c.name,
		Timeout:   c.timeout,
		MaxStuck:  maxStuck,
		CloseWait: pluginCloseWait,
	})}
}

// validate asks the validator, and tells a sender waiting for the answer who
// refused.
func (p *plugin) validate(ctx context.Context, in *message.Received) message.Verdict {
	before := p.troubles()
	v := p.budget.Validate(ctx, in)
	if v == message.Accept {
		return v
	}
	reason := fmt.Sprintf("validator %q", p.budget.Name())
	if after := p.troubles(); after != before {
		reason += ", which " + after.since(before)
		p.tell(reason)
	}
	noteRefusal(ctx, reason)
	return v
}

// judge is validate for messages that aren't gone if they aren't judged: it fails
// when the validator is in trouble.
func (p *plugin) judge(ctx context.Context, in *message.Received) (message.Verdict, error) {
	before := p.troubles()
	v := p.validate(ctx, in)
	if v == message.Ignore && p.troubles() != before {
		return v, fmt.Errorf("validator %q is in trouble", p.budget.Name())
	}
	return v, ctx.Err()
}

// troubles counts what can go wrong with a call.
type troubles struct{ timedOut, panicked, stuck, noVerdict uint64 }

func (p *plugin) troubles() troubles {
	c := p.budget.Counters()
	return troubles{
		timedOut:  c.Of(dosguard.ReasonTimeout),
		panicked:  c.Of(dosguard.ReasonPanic),
		stuck:     c.Of(dosguard.ReasonStuck),
		noVerdict: c.Of(dosguard.ReasonBadVerdict),
	}
}

// since says in words what was added.
func (t troubles) since(before troubles) string {
	switch {
	case t.panicked > before.panicked:
		return "panicked"
	case t.stuck > before.stuck:
		return fmt.Sprintf("isn't asked any more: %d calls of it never came back", maxStuck)
	case t.noVerdict > before.noVerdict:
		return "gave no verdict"
	}
	return "didn't answer in time"
}

func (p *plugin) tell(reason string) {
	p.mu.Lock()
	now := time.Now()
	quiet := !p.told.IsZero() && now.Sub(p.told) < troubleEvery
	if !quiet {
		p.told = now
	}
	p.mu.Unlock()
	if quiet {
		return
	}
	p.node.cfg.logger.Warn("plugged-in validator in trouble", "shard", p.shard, "reason", reason)
	p.node.emit(Event{Kind: ValidatorTrouble, Shard: p.shard, Reason: reason})
}

func (p *plugin) health() (ValidatorHealth, bool) {
	t := p.troubles()
	h := ValidatorHealth{
		Name:      p.budget.Name(),
		Stuck:     p.budget.Stuck(),
		TimedOut:  t.timedOut,
		Panicked:  t.panicked,
		NotAsked:  t.stuck,
		NoVerdict: t.noVerdict,
	}
	return h, h.Stuck > 0 || t != troubles{}
}

// closePlugins ends all at once, for each may take its time.
func closePlugins(plugins []*plugin) error {
	errs := make([]error, len(plugins))
	var wg sync.WaitGroup
	for i, p := range plugins {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := p.budget.Close(); err != nil {
				errs[i] = fmt.Errorf("waku: shard %s: %w", p.shard, err)
			}
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// refusalKey marks, in the context of a Publish, where to write who refused.
type refusalKey struct{}

type refusal struct {
	mu     sync.Mutex
	reason string
}

func withRefusal(ctx context.Context) (context.Context, *refusal) {
	r := new(refusal)
	return context.WithValue(ctx, refusalKey{}, r), r
}

func noteRefusal(ctx context.Context, reason string) {
	if r, ok := ctx.Value(refusalKey{}).(*refusal); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reason = reason
	}
}

func (r *refusal) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason
}
