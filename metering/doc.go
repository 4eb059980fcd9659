// Package metering counts what each tenant uses: requests, bytes, time and
// units, by plan, route and consumer. It knows no HTTP.
//
//	request path (ns)            flusher (1 s)                shipper, one a sink
//	flight, A/B record      ->   log frame, fdatasync    ->   batches, at least once
//	(outlives a kill)            (outlives a power loss)      (the largest value counts)
//
// A request is counted before the first byte of its answer leaves, in a record
// of a mapped file: what the client has seen is in the file, however the
// process ends. A record has two copies, of which one byte says which is in
// force, so that it is never read half written. A flight says how far a
// request has come; those that a kill cuts are listed, and can be waived.
//
// Once in each flush interval the cells that have changed go to the log, with
// their counts so far. The log bounds what a power loss costs. A minute is
// sealed two seconds after its end: then nothing adds to it. Sinks read the
// log; a cell may reach them more than once and in any order, and of two
// values the larger is the later.
//
// Every process has an epoch: a folder with its log and a lock that it holds
// while it lives. Whoever owns the folder above adopts the epochs of those
// that have ended. So two processes can count at once, one that drains and
// its heir, and two that were started from copies of one disk are told apart.
//
// Where files cannot be mapped (not Linux) the records are in the memory of
// the process, and a kill costs at most one flush interval.
//
// Locks are taken in this order: flusher.mu, Meter.past, stripe.mu, live.mu.
// Meter.mu and TenantMeter.mu are taken before live.mu and hold no other; a
// request takes stripe.mu alone, and live.mu once a minute for each series.
package metering
