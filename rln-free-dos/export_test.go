package dosguard

// WithoutStrictness, WithoutWindow and WithoutMemory switch a defence off, so
// that tests can show what it is good for.
func (s *Signed) WithoutStrictness() *Signed { s.withoutStrictness = true; return s }
func (s *Signed) WithoutWindow() *Signed     { s.withoutWindow = true; return s }
func (s *Signed) WithoutMemory() *Signed     { s.withoutMemory = true; return s }

// Remembered is how many digests and buckets the memory holds.
func (s *Signed) Remembered() (digests, buckets int) {
	return s.memory.size, len(s.memory.buckets)
}

// Known is how many peers the budget tells apart.
func (b *PeerBudget) Known() int { return len(b.peers) }

// NumReasons is the number of reasons.
const NumReasons = int(numReasons)
