package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
)

// eventQuery filters events.
type eventQuery struct {
	Actor   string    `query:"actor" doc:"Those of this actor."`
	Subject string    `query:"subject" doc:"Those about this thing."`
	Kind    string    `query:"kind" doc:"Kinds, separated by commas; one that ends in * means all that begin so."`
	From    time.Time `query:"from" doc:"The first time wanted."`
	To      time.Time `query:"to" doc:"The first time no longer wanted."`
	Before  uint64    `query:"before" doc:"Those before this revision: the last of the page before."`
	Limit   int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (q *eventQuery) filter(tenant gatehouse.TenantID) control.EventFilter {
	f := control.EventFilter{Tenant: string(tenant), Actor: q.Actor, Subject: q.Subject, From: q.From, To: q.To, Before: q.Before}
	if q.Kind != "" {
		f.Kinds = strings.Split(q.Kind, ",")
	}
	return f
}

func (s *rest) events(ctx context.Context, path string, tenant gatehouse.TenantID, q *eventQuery) (*listing[control.Event], error) {
	found, err := s.Plane.Events(ctx, q.filter(tenant), q.Limit)
	if err != nil {
		return nil, err
	}
	page := control.Page[control.Event]{Items: found}
	l := &listing[control.Event]{Body: page}
	if len(found) == q.Limit {
		next := strconv.FormatUint(found[len(found)-1].Revision, 10)
		l.Body.Next = next
		l.Link = "<" + path + "?before=" + next + `>; rel="next"`
	}
	return l, nil
}

const revisionsPath = "/api/v1/revisions"

func (s *rest) history() {
	add(s, "listRevisions", http.MethodGet, revisionsPath, "List changes, newest first", nil, func(ctx context.Context, in *struct {
		eventQuery
		Tenant gatehouse.TenantID `query:"tenant" doc:"Those of this tenant."`
	},
	) (*listing[control.Event], error) {
		return s.events(ctx, revisionsPath, in.Tenant, &in.eventQuery)
	})
	add(s, "getRevision", http.MethodGet, revisionsPath+"/{revision}", "Read a change, with what it changed", nil, func(ctx context.Context, in *struct {
		Revision uint64 `path:"revision"`
	},
	) (*answer[control.Event], error) {
		e, err := s.Plane.Event(ctx, in.Revision)
		return tagged(e, e.Revision), err
	})
	add(s, "listAudit", http.MethodGet, tenantsPath+"/{tenant}/audit", "List what was done to a tenant, newest first", nil, func(ctx context.Context, in *struct {
		tenantPath
		eventQuery
	},
	) (*listing[control.Event], error) {
		return s.events(ctx, tenantsPath+"/"+string(in.Tenant)+"/audit", in.Tenant, &in.eventQuery)
	})
	add(s, "verifyAudit", http.MethodGet, "/api/v1/audit/verify", "Check the whole chain of the journal", nil, func(ctx context.Context, _ *struct{}) (*answer[journal.Report], error) {
		r, err := s.Plane.Verify(ctx)
		return tagged(r, 0), err
	})
	add(s, "exportAudit", http.MethodGet, "/api/v1/audit/export", "The journal as NDJSON, an event a line, oldest first", nil, func(_ context.Context, in *struct {
		After uint64 `query:"after" doc:"Events after this revision."`
	},
	) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			ctx.SetHeader("Content-Type", "application/x-ndjson")
			if err := s.Plane.Export(ctx.Context(), ctx.BodyWriter(), in.After); err != nil {
				s.Log.Warn("export of the journal ended early", "error", err)
			}
		}}, nil
	})
}

// applyBody is what is wanted.
type applyBody struct {
	Plans   []gatehouse.Plan `json:"plans,omitempty"`
	Tenants []tenantBody     `json:"tenants,omitempty"`
	// Prune deletes what is stored and not wanted.
	Prune bool `json:"prune,omitempty"`
}

// applied says what was done, or would be.
type applied struct {
	// Revision is the journal's after it.
	Revision uint64           `json:"revision"`
	Items    []control.Effect `json:"items"`
}

func (s *rest) apply() {
	add(s, "apply", http.MethodPost, "/api/v1/apply", "Bring plans and tenants about, each taken or refused by itself", applyBody{}, func(ctx context.Context, in *struct {
		change
		RawBody []byte
	},
	) (*answer[applied], error) {
		m, err := in.mutation(ctx, in.RawBody)
		if err != nil {
			return nil, err
		}
		var body applyBody
		if err := decode(in.RawBody, &body); err != nil {
			return nil, err
		}
		w := control.Wanted{Plans: body.Plans, Prune: body.Prune, Files: map[gatehouse.TenantID]map[string][]byte{}}
		for i := range body.Tenants {
			w.Tenants = append(w.Tenants, body.Tenants[i].Tenant)
			w.Files[body.Tenants[i].ID] = body.Tenants[i].files()
		}
		items, err := s.Plane.Apply(ctx, w, m)
		if err != nil {
			return nil, err
		}
		head, err := s.Plane.Head(ctx)
		return tagged(applied{head.Seq, items}, 0), err
	}, large)
}
