// Package policy decides requests with the Open Policy Agent.
//
// Two policies decide each request, and both must allow: the platform
// baseline (package gatehouse.baseline, the operator's) and the tenant's own
// modules (package gatehouse.tenant). Undefined, non-boolean, failed and late
// answers are denials. On a denial the package that denied may define
//
//	reason  a string for the access log
//	public  true: the reason may be told to the caller
//	status  an HTTP status from 400 to 499; 403 unless given
//
// and on either answer obligations, see [Obligations].
//
// Both read one document, input:
//
//	tenant, plan, route, auth      strings; auth is none, optional or required
//	features                       object: name of a feature that is on -> true
//	request.method, .host, .path   strings; host and path are canonical
//	request.segments               array: the path split at "/", percent-decoded;
//	                               [] for "/", a last "" for a trailing slash
//	request.query                  object: name -> array of decoded values
//	request.headers                object: lower-case name -> value; repeated
//	                               fields joined with ", " (cookie: "; ")
//	request.body_size              number of bytes; -1 when not known
//	request.protocol               string, HTTP/1.1
//	principal.kind, .id, .tenant   strings; kind is anonymous without a credential
//	principal.issuer               string, of the token; absent without one
//	principal.roles, .scopes,
//	principal.groups               arrays of strings
//	principal.claims               object
//	client.ip                      string; client.tls  boolean
//	client.cert                    object, not there without a certificate:
//	                               subject, issuer, serial, fingerprint
//	                               strings; san.dns, .uri, .email arrays of
//	                               strings; not_after nanoseconds
//	time                           number: nanoseconds since the Unix epoch
//
// Tenant modules read input and their own package only, cannot reach the
// network, the clock apart from the request's instant, or randomness, and are
// held to a budget of steps, bytes and time (see [Config]).
package policy
