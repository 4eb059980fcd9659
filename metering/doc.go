// Package metering counts what each tenant uses: requests, bytes, time and
// units, by route and principal.
//
// Counts live in memory and are written to usage.json at every flush interval
// and when Run ends. A process that is killed loses what it counted since the
// last flush, at most one interval; it never counts twice, and the file is
// always one whole flush. One process at a time may use a directory; one that
// is to follow another counts in memory until it adopts the other's file.
//
// Counting takes no lock: a Series is a set of atomic counters, found in a
// table that is read without one. The counters of one Series are not read at
// one instant, so that a total may show a request whose bytes are still to
// come.
package metering
