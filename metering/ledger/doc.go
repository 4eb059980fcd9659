// Package ledger keeps usage for good, in SQLite or PostgreSQL, and answers
// how much of it there was.
//
// It holds cells of gateways, events that were measured elsewhere, and signed
// adjustments. None of them is ever deleted, and only a cell changes: it
// grows. Writing a cell keeps the larger of two values, so that a batch that
// is delivered twice, late, or out of order leaves the sums as they are; an
// event is known by source and id for ever. Sums by UTC hour and day are kept
// by triggers of the database, in the transaction that changes what they sum.
// Check recomputes them.
//
// Time is in whole minutes. A window of a time zone is made of days, hours
// and minutes of UTC, and so is exact in every zone.
//
// The tables' names begin with metering_, so that they can share a database.
package ledger
