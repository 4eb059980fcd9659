// Package gatehouse is the document: what an operator writes about plans,
// tenants, routes, backends, limits, identity and policy, as plain data.
//
// One definition serves the YAML file, the REST body, the store and the
// command line. [Document.Validate] holds every rule that needs no other
// package; what needs a compiler (Rego, regular expressions of a route, key
// sets) is refused where it is compiled, with the same [Fault].
//
// The package imports the standard library only, does no I/O and starts no
// goroutine. Its values are not safe for concurrent mutation; once handed to
// a gateway in an [Update] they are read-only.
package gatehouse
