package main

import (
	"context"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/gatehouse-gateway/gatehouse/policy"
)

// newAuthorizer returns the decision about operations: the roles that ship.
func newAuthorizer(engine *policy.Engine) (control.Decide, error) {
	var modules []gatehouse.Module
	for name, source := range policies.Roles() {
		modules = append(modules, gatehouse.Module{Name: name, Source: source})
	}
	roles, err := engine.Authorizer(modules)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, a control.Access) (bool, string, error) { return roles.Decide(ctx, a) }, nil
}
