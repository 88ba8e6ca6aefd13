package peers

import "time"

const (
	// A dial every dialEvery, dialBurst of them at once, dialsAtOnce not answered.
	dialEvery   = 250 * time.Millisecond
	dialBurst   = 16
	dialsAtOnce = 8
)

// pace bounds how often is dialled.
type pace struct {
	spent  time.Time // when all that was dialled will have been allowed for
	last   time.Time
	streak int // failures in a row, whoever's
}

// slow is the pause between dials after so many failures when there is no
// connection at all: the machine may be offline for the night.
func (p *pace) slow() time.Duration {
	switch {
	case p.streak < 32:
		return 0
	case p.streak < 64:
		return time.Second
	case p.streak < 128:
		return 5 * time.Second
	case p.streak < 256:
		return 15 * time.Second
	}
	return 30 * time.Second
}

// next is when the next dial may begin.
func (p *pace) next(isolated bool) time.Time {
	at := p.spent.Add(-(dialBurst - 1) * dialEvery)
	if slow := p.last.Add(p.slow()); isolated && slow.After(at) {
		return slow
	}
	return at
}

func (p *pace) take(now time.Time) {
	if p.spent.Before(now) {
		p.spent = now
	}
	p.spent, p.last = p.spent.Add(dialEvery), now
}
