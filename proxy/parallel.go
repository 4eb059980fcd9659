package proxy

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// batch is how many things one processor takes at a time: fewer are not worth
// a goroutine.
const batch = 32

// each calls f with 0 to n-1, in any order, on all processors where there is
// enough for them. It returns when all calls have.
func each(n int, f func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), (n+batch-1)/batch)
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var taken atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				end := int(taken.Add(batch))
				for i := end - batch; i < min(end, n); i++ {
					f(i)
				}
				if end >= n {
					return
				}
			}
		})
	}
	all.Wait()
}
