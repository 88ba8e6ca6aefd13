package scale

import (
	"context"
	"time"
)

// Run runs a shard. It belongs in a synctest bubble; everything it began has ended when
// it returns.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	r, end, err := Begin(ctx, cfg)
	if end != nil {
		end()
	}
	return r, err
}

// Begin is Run without its end, which takes its time for many nodes and can be left
// out by a process that is about to end itself.
func Begin(ctx context.Context, cfg Config) (r *Result, end func(), err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	w, err := newWorld(ctx, cfg)
	if w == nil {
		return nil, nil, err
	}
	if err != nil {
		return nil, w.close, err
	}
	w.connect()
	if cfg.Attack.At < 0 {
		w.attack()
	} else {
		time.AfterFunc(cfg.Settle+cfg.Warm+cfg.Attack.At, func() {
			if w.ctx.Err() == nil {
				w.attack()
			}
		})
	}
	w.wg.Go(w.talk)
	w.until(cfg.Settle+cfg.Warm, "settling")
	for _, n := range w.nodes {
		n.before = n.host.Traffic()
	}
	healed := w.trouble()
	wall := cfg.Wall()
	w.until(cfg.Settle+cfg.Warm+cfg.Load, "loaded")
	w.pace = (cfg.Wall() - wall).Seconds() / cfg.Load.Seconds()
	for _, n := range w.nodes {
		n.bytes = n.host.Traffic().Sub(n.before)
	}
	w.until(w.length(), "draining")
	healed()
	if err := ctx.Err(); err != nil {
		return nil, w.close, err
	}
	return w.result(), w.close, nil
}

func (w *world) length() time.Duration {
	return w.cfg.Settle + w.cfg.Warm + w.cfg.Load + w.cfg.Drain
}

// until lets virtual time pass, second by second.
func (w *world) until(end time.Duration, part string) {
	for {
		left := end - time.Since(w.began)
		if left <= 0 || w.ctx.Err() != nil {
			return
		}
		time.Sleep(min(left, time.Second))
		if done := time.Since(w.began); done > dialSpread+5*time.Second {
			w.mend()
		}
		if w.cfg.Attack.Kind != "" && time.Since(w.began) >= w.cfg.Settle+w.cfg.Warm {
			share, _ := w.held()
			w.heldBy = append(w.heldBy, share)
		}
		if w.cfg.Progress != nil {
			w.cfg.Progress(w.progress(part))
		}
	}
}

func (w *world) progress(part string) Progress {
	p := Progress{
		Part: part, Done: time.Since(w.began), All: w.length(), Wall: w.cfg.Wall(),
		Delivered: int(w.delivered.Load()), RSS: rss(),
	}
	for i := range w.say {
		if w.say[i].at <= p.Done {
			p.Due += len(w.honest()) - 1
		}
	}
	p.Degree = w.degree(Member)
	return p
}

func (w *world) degree(role Role) float64 {
	links, nodes := 0, 0
	for _, n := range w.nodes {
		if n.role == role && !n.gone.Load() {
			nodes++
			links += len(n.relay.Mesh(shard))
		}
	}
	return float64(links) / float64(max(1, nodes))
}

// trouble brings about what the run is about; what it returns ends it.
func (w *world) trouble() (end func()) {
	t := w.cfg.Trouble
	vanish := func(nodes []*node, share float64) {
		for _, k := range w.pick(int(share*float64(len(nodes))+0.5), len(nodes), -1) {
			w.kill(nodes[k])
		}
	}
	vanish(w.members(), t.Vanish)
	vanish(w.fleet(), t.FleetVanish)
	if t.Split <= 0 {
		return func() {}
	}
	w.net.Split(func(h hostNumber) int { return h.Number % 2 }, w.cfg.Notice)
	timer := time.AfterFunc(t.Split, w.net.Heal)
	return func() { timer.Stop() }
}
