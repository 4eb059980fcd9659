// Package billing turns usage into invoices to the cent: plans and prices,
// rating, subscriptions, discounts, taxes, wallets, invoices, credit notes, and
// the figures that the operator reads off them.
//
// Every function is pure: it reads its arguments, writes its results, and knows
// no clock, no store and no network, so that a run that is repeated gives the
// same bytes. Arguments are not changed unless the comment says so.
//
// Money is exact. Amounts are rational numbers until a line is complete; the
// line is then rounded once, half up, to the minor unit of its currency, and
// totals are sums of rounded lines. Rating is cumulative: a line is what all
// usage since the period began comes to, less what has been billed of it, so
// that cutting a period into invoices does not change what is paid.
package billing
