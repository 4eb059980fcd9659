// Package journal is the control plane's store: one append-only, hash-chained
// table of events on SQLite or PostgreSQL, and the state that is their fold,
// written in the same transaction.
//
// # What is kept
//
// A resource is a JSON document with a kind, a tenant and an id; the journal
// does not know what is in it. An event puts or deletes any number of
// resources at once, or none (a refusal is an event too). A resource's
// revision is the sequence number of the event that last wrote it, so that
// history, differences, rollback and the state as of any event need nothing
// but the events. Events are numbered from 1 without gaps and never change.
//
// Secrets do not belong into an event in clear: what enters the chain cannot
// leave it. Config.Guard is where a caller enforces that.
//
// # The chain
//
// hash = SHA-256(prev_hash ‖ canonical(event)); the first event's prev_hash is
// 32 zero bytes. canonical(event), integers big-endian:
//
//	"GHJ1" | seq uint64 | at int64 (µs since 1970, UTC)
//	| then of actor, kind, tenant, subject and body each: length uint64, bytes
//
// The body is hashed as the bytes that are stored, never as re-encoded JSON:
//
//	{"why":…,"key":…,"request":…,"edits":[{"kind":…,"tenant":…,"id":…,
//	 "before":revision,"created":µs,"after":{…}}]}
//
// An edit without "after" deleted its resource; "before" is left out where
// the resource was new. key and request are the Idempotency of the change.
//
// Times never decrease along the chain: when the clock is set back, events
// carry the time of the last one before it until the clock has caught up.
//
// # Concurrency
//
// All methods are safe for concurrent use, by several processes too. Writers
// take turns: within a process the one whose turn it is writes what the others
// have waiting in one transaction, so that they share its fsync; processes on
// one PostgreSQL take turns by an advisory lock, on one SQLite file by its
// write lock. Commit returns when the event is durable. Readers never wait for
// writers, see whole events only, and see them in order: an event is never
// visible before those with smaller numbers. NOTIFY only wakes watchers up;
// what they read is always "seq > last".
package journal
