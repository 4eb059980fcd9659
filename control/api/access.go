package api

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

type callerKey struct{}

// caller returns who asks.
func caller(ctx context.Context) control.Caller {
	c, _ := ctx.Value(callerKey{}).(control.Caller)
	return c
}

// authenticate lets only those operations through that the caller's token may
// do.
func (s *rest) authenticate(ctx huma.Context, next func(huma.Context)) {
	scheme, token, _ := strings.Cut(ctx.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		token = ""
	}
	address, _, err := net.SplitHostPort(ctx.RemoteAddr())
	if err != nil {
		address = ctx.RemoteAddr()
	}
	c, err := s.Operators.Authenticate(ctx.Context(), strings.TrimSpace(token), address)
	if err == nil {
		c, err = s.authorize(ctx, c)
	}
	if err != nil {
		answer(ctx, s.report(err))
		return
	}
	next(huma.WithValue(ctx, callerKey{}, c))
}

// authorize lets a caller do the operation of a request. A data plane's token
// is bound to its name at its first use.
func (s *rest) authorize(ctx huma.Context, c control.Caller) (control.Caller, error) {
	a := control.Access{
		Operation: ctx.Operation().OperationID, Tenant: gatehouse.TenantID(ctx.Param("tenant")), Gateway: ctx.Param("gateway"), Caller: c,
	}
	if a.Operation == followOperation {
		a.Gateway = ctx.Header(gatewayHeader)
	}
	if err := s.Operators.Authorize(ctx.Context(), a); err != nil || c.Role != control.Gateway || c.Gateway != "" || a.Gateway == "" {
		return c, err
	}
	bound, err := s.Operators.Bind(ctx.Context(), c, a.Gateway)
	if gatehouse.CodeOf(err) == gatehouse.CodeNotFound { // revoked meanwhile
		return c, &gatehouse.Error{Code: gatehouse.CodeBadToken, Message: "the operator token is not accepted", Err: err}
	}
	if err != nil {
		return c, err
	}
	a.Caller = bound
	return bound, s.Operators.Authorize(ctx.Context(), a)
}

// within has the parts of a tenant's document that a change touches decided
// too: who may edit a tenant may not edit all of it.
func (s *rest) within(ctx context.Context, operation string, tenant gatehouse.TenantID) func(context.Context, []control.Difference) error {
	c := caller(ctx)
	return func(ctx context.Context, changes []control.Difference) error {
		var parts []string
		for i := range changes {
			name, _, _ := strings.Cut(strings.TrimPrefix(changes[i].Pointer, "/"), "/")
			if !slices.Contains(parts, name) {
				parts = append(parts, name)
			}
		}
		if len(parts) == 0 {
			return nil
		}
		return s.Operators.Authorize(ctx, control.Access{Operation: operation, Tenant: tenant, Caller: c, Parts: parts})
	}
}

func (s *rest) getCaller(ctx context.Context, _ *struct{}) (*one[control.Caller], error) {
	c := caller(ctx)
	if c.Tenants == nil {
		c.Tenants = []gatehouse.TenantID{}
	}
	return tagged(c, 0, nil)
}

const tokensPath = "/api/v1/tokens"

// TokenPath names an operator token.
type TokenPath struct {
	Token string `path:"token" maxLength:"63" doc:"Id of the token."`
}

func (s *rest) tokens() {
	add(s, "getCaller", http.MethodGet, "/api/v1/whoami", "Who the token of this request is", s.getCaller)
	add(s, "listTokens", http.MethodGet, tokensPath, "List operator tokens", s.listTokens)
	add(s, "createToken", http.MethodPost, tokensPath, "Make an operator token; its secret is in this answer only", s.createToken, body[control.NewToken](), created)
	add(s, "getToken", http.MethodGet, tokensPath+"/{token}", "Read an operator token", s.getToken)
	add(s, "revokeToken", http.MethodDelete, tokensPath+"/{token}", "Revoke an operator token", s.revokeToken, noContent)
}

func (s *rest) listTokens(ctx context.Context, in *Paging) (*listing[control.Token], error) {
	page, err := s.Plane.Tokens(ctx, in.Cursor, in.Limit)
	for i := range page.Items {
		page.Items[i].LastUsed = s.Operators.LastUsed(page.Items[i].ID)
	}
	return paged(in, page, err)
}

func (s *rest) createToken(ctx context.Context, in *struct {
	Change
	RawBody []byte
},
) (*made[control.Token], error) {
	var body control.NewToken
	m, err := in.read(ctx, in.RawBody, &body)
	if err != nil {
		return nil, allFaults(err, func() error {
			_, err := s.Plane.CreateToken(ctx, body, control.Mutation{Actor: m.Actor, DryRun: true})
			return err
		})
	}
	t, err := s.Plane.CreateToken(ctx, body, m)
	return madeOf(t, &t.Meta, err)
}

func (s *rest) getToken(ctx context.Context, in *TokenPath) (*one[control.Token], error) {
	t, err := s.Plane.Token(ctx, in.Token)
	t.LastUsed = s.Operators.LastUsed(in.Token)
	return tagged(t, t.Revision, err)
}

func (s *rest) revokeToken(ctx context.Context, in *struct {
	TokenPath
	Change
},
) (*gone, error) {
	m, err := in.mutation(ctx, nil)
	if err != nil {
		return nil, err
	}
	preview, err := s.Plane.RevokeToken(ctx, in.Token, m)
	if err == nil && preview == nil {
		s.Operators.Forget(in.Token)
	}
	return goneOf(preview, err)
}
