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

// EventQuery filters events.
type EventQuery struct {
	Actor   string    `query:"actor" maxLength:"512" doc:"Those of this actor."`
	Subject string    `query:"subject" maxLength:"512" doc:"Those about this thing."`
	Kind    string    `query:"kind" maxLength:"1000" doc:"Kinds, separated by commas; one that ends in * means all that begin so."`
	From    time.Time `query:"from" doc:"The first time wanted."`
	To      time.Time `query:"to" doc:"The first time no longer wanted."`
	Before  uint64    `query:"before" doc:"Those before this revision: the next of the page before."`
	Limit   int       `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most so many."`

	Origin
}

func (q *EventQuery) filter(tenant gatehouse.TenantID) control.EventFilter {
	f := control.EventFilter{Tenant: string(tenant), Actor: q.Actor, Subject: q.Subject, From: q.From, To: q.To, Before: q.Before}
	if q.Kind != "" {
		f.Kinds = strings.Split(q.Kind, ",")
	}
	return f
}

func (s *rest) events(ctx context.Context, tenant gatehouse.TenantID, q *EventQuery) (*listing[control.Event], error) {
	found, err := s.Plane.Events(ctx, q.filter(tenant), q.Limit)
	if err != nil {
		return nil, err
	}
	l := &listing[control.Event]{Body: control.Page[control.Event]{Items: found}}
	if len(found) == q.Limit {
		l.Body.Next = strconv.FormatUint(found[len(found)-1].Revision, 10)
		l.Link = q.page("before", l.Body.Next)
	}
	return l, nil
}

const revisionsPath = "/api/v1/revisions"

func (s *rest) history() {
	add(s, "listRevisions", http.MethodGet, revisionsPath, "List changes, newest first", s.listRevisions)
	add(s, "getRevision", http.MethodGet, revisionsPath+"/{revision}", "Read a change, with what it changed", s.getRevision)
	add(s, "compareRevisions", http.MethodGet, revisionsPath+"/{revision}/diff", "What differs between the state after a revision and that after another", s.compareRevisions)
}

func (s *rest) listRevisions(ctx context.Context, in *struct {
	EventQuery
	Tenant gatehouse.TenantID `query:"tenant" maxLength:"63" doc:"Those of this tenant."`
},
) (*listing[control.Event], error) {
	return s.events(ctx, in.Tenant, &in.EventQuery)
}

// RevisionPath names a revision.
type RevisionPath struct {
	Revision uint64 `path:"revision" doc:"Number of the event."`
}

func (s *rest) getRevision(ctx context.Context, in *RevisionPath) (*one[control.Event], error) {
	e, err := s.Plane.Event(ctx, in.Revision)
	return tagged(e, 0, err)
}

// comparison is what differs between two revisions.
type comparison struct {
	// From and To are revisions.
	From    uint64                   `json:"from"`
	To      uint64                   `json:"to"`
	Changes []control.ResourceChange `json:"changes"`
}

func (s *rest) compareRevisions(ctx context.Context, in *struct {
	RevisionPath
	To     uint64             `query:"to" doc:"The other revision. Default: the last."`
	Tenant gatehouse.TenantID `query:"tenant" maxLength:"63" doc:"What belongs to this tenant."`
},
) (*one[comparison], error) {
	if in.To == 0 {
		head, err := s.Plane.Head(ctx)
		if err != nil {
			return nil, err
		}
		in.To = head.Seq
	}
	changes, err := s.Plane.Compare(ctx, in.Tenant, in.Revision, in.To)
	return tagged(comparison{in.Revision, in.To, changes}, 0, err)
}

func (s *rest) audit() {
	add(s, "listAudit", http.MethodGet, tenantOne+"/audit", "List what was done to a tenant, newest first", s.listAudit)
	add(s, "exportTenantAudit", http.MethodGet, tenantOne+"/audit/export", "What was done to a tenant as NDJSON, oldest first", s.exportTenantAudit, lines[control.Event])
	add(s, "verifyAudit", http.MethodGet, "/api/v1/audit/verify", "Check the whole chain of the journal", s.verifyAudit)
	add(s, "exportAudit", http.MethodGet, "/api/v1/audit/export", "The journal as NDJSON, an event a line, oldest first, for import and independent verification", s.exportAudit, lines[any])
}

func (s *rest) listAudit(ctx context.Context, in *struct {
	TenantPath
	EventQuery
},
) (*listing[control.Event], error) {
	return s.events(ctx, in.Tenant, &in.EventQuery)
}

func (s *rest) verifyAudit(ctx context.Context, _ *struct{}) (*one[journal.Report], error) {
	r, err := s.Plane.Verify(ctx)
	return tagged(r, 0, err)
}

func (s *rest) exportTenantAudit(ctx context.Context, in *TenantPath) (*huma.StreamResponse, error) {
	return s.streamed(func(w *lineWriter) error {
		for e, err := range s.Plane.Trail(ctx, in.Tenant) {
			if err != nil {
				return err
			}
			if err := w.write(e); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

func (s *rest) exportAudit(ctx context.Context, in *struct {
	After uint64 `query:"after" maximum:"9007199254740991" doc:"Events after this revision."`
},
) (*huma.StreamResponse, error) {
	return s.streamed(func(w *lineWriter) error { return s.Plane.Export(ctx, w, in.After) }), nil
}

// applyBody is what is wanted.
type applyBody struct {
	Plans   []planBody   `json:"plans,omitempty"`
	Tenants []tenantBody `json:"tenants,omitempty"`
	// Prune deletes what is stored and not wanted.
	Prune bool `json:"prune,omitempty" doc:"Delete the tenants and plans that are stored and not wanted."`
	// PruneLimit refuses the whole where more would be deleted.
	PruneLimit *int `json:"prune_limit,omitempty" minimum:"1" doc:"How many things prune may delete; where it would be more nothing is done. Needed where none of the stored tenants, or of the stored plans, would stay."`
}

// applied says what was done, or would be.
type applied struct {
	// Revision is the journal's after it.
	Revision uint64 `json:"revision"`
	// Refused is how many of the items were.
	Refused int              `json:"refused"`
	Items   []control.Effect `json:"items"`
}

func (s *rest) apply() {
	add(s, "apply", http.MethodPost, "/api/v1/apply", "Bring plans and tenants about, each taken or refused by itself", s.applyAll, body[applyBody](yamlType), large)
}

func (s *rest) applyAll(ctx context.Context, in *struct {
	Change
	Prune      bool `query:"prune" doc:"Delete the tenants and plans that are stored and not wanted."`
	PruneLimit int  `query:"prune_limit" minimum:"1" doc:"How many things prune may delete; where it would be more nothing is done. Needed where none of the stored tenants, or of the stored plans, would stay."`
	RawBody    []byte
},
) (*one[applied], error) {
	m, err := in.mutation(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	var body applyBody
	if in.media == yamlType {
		var document gatehouse.Document // as in a file, without contents of others
		err = decode(in.media, in.RawBody, &document)
		for i := range document.Plans {
			body.Plans = append(body.Plans, planBody{Plan: document.Plans[i]})
		}
		for i := range document.Tenants {
			body.Tenants = append(body.Tenants, tenantBody{Tenant: document.Tenants[i]})
		}
	} else {
		err = decode(in.media, in.RawBody, &body)
	}
	if err != nil {
		return nil, err
	}
	limit := in.PruneLimit
	if own := body.PruneLimit; own != nil {
		if *own < 1 {
			return nil, refusedBody(gatehouse.Faults{{Pointer: "/prune_limit", Reason: "prune_limit is at least 1"}})
		}
		if limit == 0 || *own < limit {
			limit = *own
		}
	}
	w := control.Wanted{Prune: body.Prune || in.Prune, PruneLimit: limit, Files: map[gatehouse.TenantID]map[string][]byte{}}
	for i := range body.Plans {
		w.Plans = append(w.Plans, body.Plans[i].Plan)
	}
	for i := range body.Tenants {
		w.Tenants = append(w.Tenants, body.Tenants[i].Tenant)
		w.Files[body.Tenants[i].ID] = body.Tenants[i].Files.contents()
	}
	items, err := s.Plane.Apply(ctx, w, m)
	if err != nil {
		return nil, err
	}
	out := applied{Items: items}
	if out.Items == nil {
		out.Items = []control.Effect{}
	}
	for i := range items {
		if items[i].Action == control.ActionRefuse {
			out.Refused++
		}
		if n := i - len(body.Plans); n >= 0 && n < len(body.Tenants) {
			redact(items[i].Faults, &body.Tenants[n])
		} else if n < 0 {
			redact(items[i].Faults, &body.Plans[i])
		}
	}
	head, err := s.Plane.Head(ctx)
	out.Revision = head.Seq
	return tagged(out, 0, err)
}
