package main

import (
	"math"
	"slices"
	"sync"
	"time"
)

// samples are durations. They may be added from many goroutines.
type samples struct {
	mu   sync.Mutex
	list []time.Duration
}

func (s *samples) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, d)
}

func (s *samples) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

// percentile is the smallest duration that p per cent of all don't exceed, in
// milliseconds.
func (s *samples) percentile(p float64) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return math.NaN()
	}
	slices.Sort(s.list)
	at := int(math.Ceil(p/100*float64(len(s.list)))) - 1
	return float64(s.list[max(0, at)]) / float64(time.Millisecond)
}
