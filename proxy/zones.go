package proxy

import (
	"sync"
	"time"
)

// zones are the time zones of tenants, each loaded once: it is a file to read,
// and many tenants are in the same. It is safe for concurrent use.
type zones struct{ known sync.Map } // name to *time.Location

// named returns the zone of a name that Validate accepted; UTC where its file
// is gone since.
func (z *zones) named(name string) *time.Location {
	if zone, ok := z.known.Load(name); ok {
		return zone.(*time.Location)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC
	}
	first, _ := z.known.LoadOrStore(name, zone)
	return first.(*time.Location)
}
