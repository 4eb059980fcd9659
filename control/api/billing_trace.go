package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
)

func (s *rest) tracing() {
	priced(s, "listDifferences", http.MethodGet, "/api/v1/billing/differences", "Trace the metered lines of issued invoices to the ledger's cells; what differs is listed", s.listDifferences)
}

// TraceQuery narrows what is traced.
type TraceQuery struct {
	Tenant string    `query:"tenant" maxLength:"63" doc:"Only this tenant. Default: all."`
	From   time.Time `query:"from" doc:"Lines whose period ends after it. Default: all."`
	To     time.Time `query:"to" doc:"Lines whose period begins before it. Default: all."`
	Cursor string    `query:"cursor" maxLength:"2000" doc:"The next of the page before."`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most so many subscriptions are traced; fewer when that takes long."`

	Origin
}

// Resolve notes the URL, and gives the answer time: all usage of a
// subscription is read.
func (q *TraceQuery) Resolve(ctx huma.Context) []error {
	_, w := humago.Unwrap(ctx)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longest)) // a recorder of answers has none
	return q.Origin.Resolve(ctx)
}

var _ huma.Resolver = (*TraceQuery)(nil)

// traced is a page of differences, with a link to the next.
type traced struct {
	Link string `header:"Link" doc:"The next page (RFC 8288)."`
	Body invoicing.Traced
}

func (s *rest) listDifferences(ctx context.Context, in *TraceQuery) (*traced, error) {
	if !in.To.IsZero() && !in.From.Before(in.To) {
		return nil, faulty("/query/to", "is not after from")
	}
	v, err := s.Accounts.Trace(ctx, invoicing.TraceFilter{Tenant: gatehouse.TenantID(in.Tenant), From: in.From, To: in.To, After: in.Cursor, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	return &traced{Link: in.page("cursor", v.Next), Body: v}, nil
}
