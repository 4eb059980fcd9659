// Package ratelimit holds a request against a stack of limits and gives one
// verdict. Either every limit of the stack is charged or none is: a refused
// request costs nothing anywhere.
//
// Local keeps the live state of one tenant. A limit is found by its name alone
// (gh:{tenant}:limit-name:by-value-digest), so that a changed limit applies to
// the running count at once, and at once for stacks that were compiled before
// the change.
//
// One mutex per tenant guards all of that tenant's state. A stack is first
// checked and then charged under that mutex, which makes the two steps one:
// nobody sees or takes the tokens in between. Tenants share no lock.
//
// With a Shared, limits are counted in a Store for all gateways: by the lease,
// where units taken ahead are spent under the same mutex, or exactly. What
// cannot be decided here is one Call to the Store. Meanwhile what the request
// takes here is reserved; should the Store refuse, it is given back as if it
// had not been taken. Units are charged in the Store before they are spent, so
// that what is lost on the way is lost to the callers and never granted twice.
package ratelimit
