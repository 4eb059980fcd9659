package gatehouse

import "errors"

// Code is a stable machine code for an error that Gatehouse itself reports.
type Code string

// The codes, by phase of the request line. Each has one row in Problems.
const (
	CodeBadRequest          Code = "GH-AD-001"
	CodeHeaderTooLarge      Code = "GH-AD-002"
	CodeBodyTooLarge        Code = "GH-AD-003"
	CodeRequestTimeout      Code = "GH-AD-004"
	CodeVersion             Code = "GH-AD-005"
	CodeNotImplemented      Code = "GH-AD-006"
	CodeExpectation         Code = "GH-AD-007"
	CodeMisdirected         Code = "GH-AD-008"
	CodeTooManyConnections  Code = "GH-AD-009"
	CodeUncountable         Code = "GH-AD-010"
	CodeUnknownTenant       Code = "GH-RS-001"
	CodeTenantSuspended     Code = "GH-RS-002"
	CodeForeignCredential   Code = "GH-RS-003"
	CodeTenantBusy          Code = "GH-RS-004"
	CodeNoRoute             Code = "GH-MT-001"
	CodeMethodNotAllowed    Code = "GH-MT-002"
	CodeNotProvisioned      Code = "GH-MT-003"
	CodeUnauthenticated     Code = "GH-ID-001"
	CodeInvalidCredential   Code = "GH-ID-002"
	CodeAmbiguousIdentity   Code = "GH-ID-003"
	CodeIdentityUnavailable Code = "GH-ID-004"
	CodeDenied              Code = "GH-DC-001"
	CodePolicyFailed        Code = "GH-DC-002"
	CodeQuotaExceeded       Code = "GH-RL-001"
	CodeReducedCapacity     Code = "GH-RL-002"
	CodeBackendUnreachable  Code = "GH-FW-001"
	CodeBackendTimeout      Code = "GH-FW-002"
	CodeBackendProtocol     Code = "GH-FW-003"
	CodeBackendBusy         Code = "GH-FW-004"
	CodeBackendProhibited   Code = "GH-FW-005"
	CodeBackendUnavailable  Code = "GH-FW-006"
	CodeLoop                Code = "GH-FW-007"
	CodeCircuitOpen         Code = "GH-FW-008"
	CodeClientGone          Code = "GH-FW-009"
	CodeInternal            Code = "GH-IN-001"
	CodeInvalid             Code = "GH-CP-001"
	CodeNotFound            Code = "GH-CP-002"
	CodeConflict            Code = "GH-CP-003"
	CodeStale               Code = "GH-CP-004"
	CodeNoPrecondition      Code = "GH-CP-005"
	CodeIdempotency         Code = "GH-CP-006"
	CodeForbidden           Code = "GH-CP-007"
	CodeBadToken            Code = "GH-CP-008"
	CodeTooManyFailures     Code = "GH-CP-009"
	CodeUnavailable         Code = "GH-CP-010"
	CodeNotBuilt            Code = "GH-CP-011"
	CodeMediaType           Code = "GH-CP-012"
)

// Problem is what a code means on the wire (RFC 9457, RFC 9209).
type Problem struct {
	// Status is the HTTP status.
	Status int
	// Type is the problem type URI.
	Type string
	// Title is the same for every occurrence.
	Title string
	// ProxyStatus is the RFC 9209 error token; empty where the answer did not
	// come from proxying.
	ProxyStatus string
}

const problemDocs = "https://github.com/gatehouse-gateway/gatehouse/blob/main/docs/reference/problems.md#"

// Problem types registered by the RateLimit draft (httpapi), used as they are.
const (
	quotaExceededType   = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	reducedCapacityType = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// Problems is the one table from code to wire. It is read-only.
var Problems = map[Code]Problem{
	CodeBadRequest:          {400, problemDocs + "bad-request", "Bad request", "http_request_error"},
	CodeHeaderTooLarge:      {431, problemDocs + "header-too-large", "Request header too large", "http_request_error"},
	CodeBodyTooLarge:        {413, problemDocs + "body-too-large", "Request body too large", "http_request_error"},
	CodeRequestTimeout:      {408, problemDocs + "request-timeout", "Request not received in time", "http_request_error"},
	CodeVersion:             {505, problemDocs + "version", "HTTP version not supported", "http_request_error"},
	CodeNotImplemented:      {501, problemDocs + "not-implemented", "Not implemented", "http_request_error"},
	CodeExpectation:         {417, problemDocs + "expectation", "Expectation failed", "http_request_error"},
	CodeMisdirected:         {421, problemDocs + "misdirected", "Misdirected request", "http_request_error"},
	CodeTooManyConnections:  {503, problemDocs + "too-many-connections", "Too many connections", "connection_limit_reached"},
	CodeUncountable:         {503, problemDocs + "uncountable", "Usage cannot be recorded", "http_request_denied"},
	CodeUnknownTenant:       {404, problemDocs + "unknown-tenant", "Unknown host", "destination_not_found"},
	CodeTenantSuspended:     {403, problemDocs + "tenant-suspended", "Tenant suspended", "http_request_denied"},
	CodeForeignCredential:   {403, problemDocs + "foreign-credential", "Credential belongs elsewhere", "http_request_denied"},
	CodeTenantBusy:          {503, reducedCapacityType, "Too many requests of this tenant in flight", "http_request_denied"},
	CodeNoRoute:             {404, problemDocs + "no-route", "No route", "destination_not_found"},
	CodeMethodNotAllowed:    {405, problemDocs + "method-not-allowed", "Method not allowed", "http_request_error"},
	CodeNotProvisioned:      {503, problemDocs + "not-provisioned", "Tenant has no routes yet", "destination_unavailable"},
	CodeUnauthenticated:     {401, problemDocs + "unauthenticated", "Credential required", "http_request_denied"},
	CodeInvalidCredential:   {401, problemDocs + "invalid-credential", "Credential not accepted", "http_request_denied"},
	CodeAmbiguousIdentity:   {400, problemDocs + "ambiguous-identity", "More than one credential", "http_request_error"},
	CodeIdentityUnavailable: {503, problemDocs + "identity-unavailable", "Credential cannot be judged now", "destination_unavailable"},
	CodeDenied:              {403, problemDocs + "denied", "Denied by policy", "http_request_denied"},
	CodePolicyFailed:        {403, problemDocs + "policy-failed", "Policy could not be evaluated", "http_request_denied"},
	CodeQuotaExceeded:       {429, quotaExceededType, "Quota exceeded", "http_request_denied"},
	CodeReducedCapacity:     {503, reducedCapacityType, "Too many requests in flight", "http_request_denied"},
	CodeBackendUnreachable:  {502, problemDocs + "backend-unreachable", "Backend unreachable", "connection_refused"},
	CodeBackendTimeout:      {504, problemDocs + "backend-timeout", "Backend too slow", "http_response_timeout"},
	CodeBackendProtocol:     {502, problemDocs + "backend-protocol", "Backend answer not usable", "http_protocol_error"},
	CodeBackendBusy:         {503, problemDocs + "backend-busy", "Backend busy", "connection_limit_reached"},
	CodeBackendProhibited:   {502, problemDocs + "backend-prohibited", "Backend address not allowed", "destination_ip_prohibited"},
	CodeBackendUnavailable:  {503, problemDocs + "backend-unavailable", "Backend unavailable", "destination_unavailable"},
	CodeLoop:                {508, problemDocs + "loop", "Forwarding loop", "proxy_loop_detected"},
	CodeCircuitOpen:         {503, problemDocs + "circuit-open", "Backend given time to recover", "destination_unavailable"},
	CodeClientGone:          {499, problemDocs + "client-gone", "Client closed the request", "client_gone"}, // in records only: nobody is left to read it
	CodeInternal:            {500, problemDocs + "internal", "Internal error", "proxy_internal_error"},
	CodeInvalid:             {422, problemDocs + "invalid", "Invalid document", ""},
	CodeNotFound:            {404, problemDocs + "not-found", "Not found", ""},
	CodeConflict:            {409, problemDocs + "conflict", "Conflict with what exists", ""},
	CodeStale:               {412, problemDocs + "stale", "Changed since it was read", ""},
	CodeNoPrecondition:      {428, problemDocs + "precondition-required", "If-Match required", ""},
	CodeIdempotency:         {409, problemDocs + "idempotency", "Idempotency key used for another request", ""},
	CodeForbidden:           {403, problemDocs + "forbidden", "Not allowed to this operator", ""},
	CodeBadToken:            {401, problemDocs + "bad-token", "Operator token required", ""},
	CodeTooManyFailures:     {429, problemDocs + "too-many-failures", "Too many failed attempts", ""},
	CodeUnavailable:         {503, problemDocs + "unavailable", "Control plane unavailable", ""},
	CodeNotBuilt:            {501, problemDocs + "not-built", "Not available yet", ""},
	CodeMediaType:           {415, problemDocs + "unsupported-media-type", "Body of a form that is not taken", ""},
}

// Error is an error with a code. Message is safe to show to the caller; Err
// is for the operator.
type Error struct {
	Code    Code
	Message string
	Err     error
}

// Error returns code, message and cause for the operator.
func (e *Error) Error() string {
	s := string(e.Code) + " " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first *Error in err's tree, CodeInternal
// for any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
