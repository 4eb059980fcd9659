// Package ratelimit holds a request against a stack of limits and gives one
// verdict. Either every limit of the stack is charged or none is: a refused
// request costs nothing anywhere.
//
// Local keeps the live state of one tenant in memory. A limit is found by its
// name alone (gh:{tenant}:limit-name:by-value-digest), so that a changed
// limit applies to the running count at once, and at once for stacks that
// were compiled before the change.
//
// One mutex per tenant guards all of that tenant's state. A stack is first
// checked and then charged under that mutex, which makes the two steps one:
// nobody sees or takes the tokens in between, and nothing ever has to be given
// back. Tenants share no lock.
package ratelimit
