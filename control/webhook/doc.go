// Package webhook tells others of events of the journal, by Standard Webhooks
// (https://www.standardwebhooks.com): a signed POST with an id that stays the
// same however often it is sent.
//
// The journal is the outbox. What has been told is a place in it, and what is
// still to be told are deliveries, each with the time of its next attempt; both
// are resources of the journal too, so that a restart loses none. A delivery
// is noted as made after it was made: it is told at least once, and whoever
// hears it tells repetitions by their webhook-id.
//
// Of several control planes one sends at a time: it takes a lease with the
// change that says what it is about to send, and what it notes afterwards is
// refused if another has taken over meanwhile.
package webhook
