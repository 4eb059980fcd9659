package policy

// KeepNone has p keep no decisions of its own from now on; those of the
// baseline are kept. It is called before the first decision.
func (p *Policy) KeepNone() { p.cache.limit = 0 }
