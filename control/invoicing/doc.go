// Package invoicing keeps what tenants owe: prices, subscriptions, invoices,
// credit notes, prepaid credit and the entries in the accounts, all in the
// journal. What an invoice comes to is computed by metering/billing; here is
// when, from what, and under which number.
//
// Whatever belongs together is one event of the journal. To finalize an invoice
// takes its number, freezes and chains it, burns credit, books the entries,
// marks what came late and moves the subscription on; all of it happens or
// none. Everything that such a change has read is among what it expects, so that
// two of them never take one number, and a change of what an invoice was made
// from makes it anew. Nothing else is needed for several control planes: each
// may close periods, and each period is closed once.
package invoicing
