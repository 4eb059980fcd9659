//go:build !race

package upstream

// raceEnabled says that the race detector is on.
const raceEnabled = false
