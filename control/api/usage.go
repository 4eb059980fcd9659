package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// Ledger returns the ledger of usage, or why it cannot be used now.
type Ledger func(context.Context) (*ledger.Ledger, error)

func (l Ledger) open(ctx context.Context) (*ledger.Ledger, error) {
	if l == nil {
		return nil, notBuilt("a ledger of usage is")
	}
	is, err := l(ctx)
	if err != nil {
		return nil, &gatehouse.Error{Code: gatehouse.CodeUnavailable, Message: "the ledger of usage cannot be used now", Err: err}
	}
	return is, nil
}

// Media types that usage is answered in.
const (
	csvType    = "text/csv"
	eventsType = ledger.EventsType
)

// usage is what the ledger knows of a tenant, and what comes into it by hand.
func (s *rest) usage() {
	add(s, "getUsage", http.MethodGet, tenantOne+"/usage", "What a tenant has used: the counters of this data plane, or with a meter what the ledger has", s.getUsage, mayBeAbsent, usageAnswers)
	add(s, "listAdjustments", http.MethodGet, tenantOne+"/usage/adjustments", "List corrections of a tenant's usage", s.listAdjustments, mayBeAbsent)
	add(s, "adjustUsage", http.MethodPost, tenantOne+"/usage/adjustments", "Correct a tenant's usage by a signed amount; what it corrects stays as it was", s.adjustUsage, body[ledger.Adjustment](), created, mayBeAbsent)
	add(s, "recordEvents", http.MethodPost, "/api/v1/events", "Record usage that was measured elsewhere, as CloudEvents; source and id name an event for ever", s.recordEvents,
		body[cloudEvent](ledger.EventType, eventsType), created, mayBeAbsent)
}

// usageAnswers says what usage is answered in.
func usageAnswers(s *rest, op *huma.Operation) {
	schema := func(t reflect.Type) *huma.Schema { return s.api.OpenAPI().Components.Schemas.Schema(t, true, "") }
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Without a meter the counters of this data plane; with one what the ledger has.",
		Headers:     map[string]*huma.Param{"Link": {Description: "The next page (RFC 8288).", Schema: &huma.Schema{Type: huma.TypeString}}},
		Content: map[string]*huma.MediaType{
			jsonType:   {Schema: &huma.Schema{OneOf: []*huma.Schema{schema(reflect.TypeFor[metering.Usage]()), schema(reflect.TypeFor[ledger.Usage]())}}},
			ndjsonType: {Schema: schema(reflect.TypeFor[ledger.Item]())},
			csvType:    {Schema: &huma.Schema{Type: huma.TypeString}},
			eventsType: {Schema: &huma.Schema{Type: huma.TypeArray, Items: schema(reflect.TypeFor[cloudEvent]())}},
		},
	}}
}

// cloudEvent is the form of an event for the API's document.
type cloudEvent struct {
	SpecVersion string    `json:"specversion" enum:"1.0" doc:"Of CloudEvents."`
	ID          string    `json:"id" doc:"With source it names the event for ever."`
	Source      string    `json:"source" doc:"Who measured it."`
	Type        string    `json:"type" doc:"The meter."`
	Subject     string    `json:"subject" doc:"The tenant."`
	Time        time.Time `json:"time,omitzero" doc:"When the usage was. Default: now."`
	Data        struct {
		Value    string `json:"value" doc:"A decimal number in the meter's unit."`
		Route    string `json:"route,omitempty" doc:"Narrows it to a route."`
		Consumer string `json:"consumer,omitempty" doc:"Whose of the tenant it was."`
		Plan     string `json:"plan,omitempty" doc:"The plan that it counts for."`
	} `json:"data" doc:"The usage."`
}

// repeats reports whether a parameter may be there more than once.
func repeats(name string) bool {
	return name == "group_by" || strings.HasPrefix(name, "filter[")
}

// UsageQuery is the parameters of usage from the ledger.
type UsageQuery struct {
	Meter          string   `query:"meter" maxLength:"200" doc:"The meter, such as requests. Without it the answer has the counters of this data plane."`
	From           string   `query:"from" maxLength:"40" doc:"The first minute: RFC 3339, or a date in tz. Default: the first of the month of to."`
	To             string   `query:"to" maxLength:"40" doc:"The first minute no longer wanted. Default: now."`
	Window         string   `query:"window" enum:"MINUTE,HOUR,DAY,MONTH,NONE" doc:"What the range is cut into. Default: NONE."`
	TZ             string   `query:"tz" maxLength:"64" doc:"Where days begin, such as Europe/Rome. Default: UTC."`
	GroupBy        []string `query:"group_by,explode" doc:"route, consumer, plan or tenant, each once."`
	FilterRoute    []string `query:"filter[route],explode" doc:"Usage of these routes only."`
	FilterConsumer []string `query:"filter[consumer],explode" doc:"Usage of these consumers only."`
	FilterPlan     []string `query:"filter[plan],explode" doc:"Usage under these plans only."`
	Limit          int      `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"At most so many."`
	Cursor         string   `query:"cursor" maxLength:"2000" doc:"The next of the page before."`
}

// of reads the parameters of a request that no schema has looked at.
func (q *UsageQuery) of(v url.Values) error {
	for name := range v {
		switch name {
		case "meter", "from", "to", "window", "tz", "group_by", "filter[route]", "filter[consumer]", "filter[plan]", "limit", "cursor":
		default:
			return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the parameters have faults: there is none of this name"}
		}
		if len(v[name]) > 1 && !repeats(name) {
			return &gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: "a parameter is there twice"}
		}
	}
	*q = UsageQuery{
		Meter: v.Get("meter"), From: v.Get("from"), To: v.Get("to"), Window: v.Get("window"), TZ: v.Get("tz"), GroupBy: v["group_by"],
		FilterRoute: v["filter[route]"], FilterConsumer: v["filter[consumer]"], FilterPlan: v["filter[plan]"], Cursor: v.Get("cursor"),
	}
	if v.Has("limit") {
		if err := json.Unmarshal([]byte(v.Get("limit")), &q.Limit); err != nil || q.Limit < 1 {
			return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "limit is a number from 1"}
		}
	}
	return nil
}

// query is that of the ledger.
func (q *UsageQuery) query(tenant gatehouse.TenantID, now time.Time) (ledger.Query, error) {
	invalid := func(message string) (ledger.Query, error) {
		return ledger.Query{}, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: message}
	}
	zone, err := time.LoadLocation(q.TZ)
	if err != nil || q.TZ == "Local" {
		return invalid("tz is no time zone such as Europe/Rome")
	}
	out := ledger.Query{
		Tenants: []gatehouse.TenantID{tenant}, Meter: q.Meter, Window: ledger.Window(q.Window), Zone: zone, Limit: q.Limit, Cursor: q.Cursor,
	}
	if out.To, err = instant(q.To, zone, now.UTC().Truncate(time.Minute)); err != nil {
		return invalid("to is no time such as 2026-03-01T00:00:00Z, nor a date")
	}
	last := out.To.In(zone).Add(-time.Minute)
	if out.From, err = instant(q.From, zone, time.Date(last.Year(), last.Month(), 1, 0, 0, 0, 0, zone)); err != nil {
		return invalid("from is no time such as 2026-03-01T00:00:00Z, nor a date")
	}
	for _, d := range q.GroupBy {
		out.GroupBy = append(out.GroupBy, ledger.Dimension(d))
	}
	for d, values := range map[ledger.Dimension][]string{ledger.Route: q.FilterRoute, ledger.Consumer: q.FilterConsumer, ledger.Plan: q.FilterPlan} {
		if len(values) > 0 {
			if out.Filter == nil {
				out.Filter = map[ledger.Dimension][]string{}
			}
			out.Filter[d] = values
		}
	}
	return out, nil
}

// instant reads RFC 3339, or the beginning of a date in zone.
func instant(text string, zone *time.Location, absent time.Time) (time.Time, error) {
	if text == "" {
		return absent, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	return time.ParseInLocation(time.DateOnly, text, zone)
}

// rendered is an answer in its form.
type rendered struct {
	media string
	next  string
	body  []byte
}

// render answers a query in the form that accept asks for first.
func render(ctx context.Context, l *ledger.Ledger, q ledger.Query, accept string) (*rendered, error) {
	u, err := l.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	out := &rendered{media: acceptable(accept), next: u.Next}
	switch out.media {
	case csvType:
		err = u.WriteCSV(&b, q.GroupBy)
	case ndjsonType:
		err = u.WriteNDJSON(&b)
	case eventsType:
		err = u.WriteEvents(&b, "gatehouse/ledger", q.Tenants[0])
	default:
		err = u.WriteJSON(&b)
	}
	out.body = b.Bytes()
	return out, err
}

// acceptable is the form that is asked for first among those that there are,
// and else JSON.
func acceptable(accept string) string {
	for one := range strings.SplitSeq(accept, ",") {
		media := mediaType(strings.TrimSpace(one))
		if slices.Contains([]string{jsonType, csvType, ndjsonType, eventsType}, media) {
			return media
		}
	}
	return jsonType
}

func (s *rest) getUsage(ctx context.Context, in *struct {
	TenantPath
	UsageQuery
	Origin
	Accept string `header:"Accept" doc:"application/json, application/x-ndjson, text/csv or application/cloudevents-batch+json."`
},
) (*huma.StreamResponse, error) {
	if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	if in.Meter == "" {
		if len(in.url.Query()) > 0 {
			return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "name a meter, such as meter=requests"}
		}
		return s.counters(ctx, in.Tenant)
	}
	l, err := s.Ledger.open(ctx)
	if err != nil {
		return nil, err
	}
	q, err := in.query(in.Tenant, time.Now())
	if err != nil {
		return nil, err
	}
	r, err := render(ctx, l, q, in.Accept)
	if err != nil {
		return nil, err
	}
	return written(r.media, in.page("cursor", r.next), r.body), nil
}

// counters are those of this data plane.
func (s *rest) counters(ctx context.Context, id gatehouse.TenantID) (*huma.StreamResponse, error) {
	if s.Usage == nil {
		return nil, notBuilt("usage is")
	}
	u, err := s.Usage(ctx, id)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(u)
	return written(jsonType, "", append(text, '\n')), err
}

func written(media, link string, text []byte) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", media)
		if link != "" {
			ctx.SetHeader("Link", link)
		}
		_, _ = ctx.BodyWriter().Write(text) // a client that is gone needs no answer
	}}
}

func (s *rest) listAdjustments(ctx context.Context, in *struct {
	TenantPath
	From string `query:"from" maxLength:"40" doc:"RFC 3339, or a date in UTC. Default: 400 days before to."`
	To   string `query:"to" maxLength:"40" doc:"Default: now."`
},
) (*one[itemsOf[ledger.Adjustment]], error) {
	if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	l, err := s.Ledger.open(ctx)
	if err != nil {
		return nil, err
	}
	to, err := instant(in.To, time.UTC, time.Now().UTC().Add(time.Minute))
	from, e := instant(in.From, time.UTC, to.AddDate(0, 0, -400))
	if errors.Join(err, e) != nil {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "from and to are times such as 2026-03-01T00:00:00Z, or dates"}
	}
	items, err := l.Adjustments(ctx, in.Tenant, from, to)
	return tagged(itemsOf[ledger.Adjustment]{items}, 0, err)
}

type itemsOf[T any] struct {
	// Items are all of them.
	Items []T `json:"items"`
}

type adjusted struct {
	ledger.Adjustment
	Duplicate bool `json:"duplicate,omitempty" doc:"It was there already."`
}

func (s *rest) adjustUsage(ctx context.Context, in *struct {
	TenantPath
	Idempotency string `header:"Idempotency-Key" maxLength:"255" doc:"The id of an adjustment that has none."`
	RawBody     []byte
},
) (*made[adjusted], error) {
	if _, err := s.Plane.Tenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	var a ledger.Adjustment
	if err := decode(jsonType, in.RawBody, &a); err != nil {
		return nil, err
	}
	if _, err := s.Ledger.open(ctx); err != nil {
		return nil, err
	}
	if err := adjustmentOf(ctx, &a, in.Tenant, in.Idempotency); err != nil {
		return nil, err
	}
	v, err := s.Accounts.Correct(ctx, a, control.Mutation{Actor: caller(ctx).Actor()})
	switch {
	case err != nil:
		return nil, err
	case v == ledger.Duplicate:
		return &made[adjusted]{Status: http.StatusOK, Body: adjusted{a, true}}, nil
	}
	return &made[adjusted]{Status: http.StatusCreated, Body: adjusted{a, false}}, nil
}

// adjustmentOf completes an adjustment by what the request says beside its
// body, and looks for faults in it.
func adjustmentOf(ctx context.Context, a *ledger.Adjustment, tenant gatehouse.TenantID, key string) error {
	if a.Tenant != "" && a.Tenant != tenant {
		return faulty("/tenant", "is not that of the path")
	}
	a.Tenant = tenant
	a.ID = cmp.Or(a.ID, key)
	a.Approver = cmp.Or(a.Approver, caller(ctx).Actor())
	if faults := a.Faults(); len(faults) > 0 {
		return &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the request has faults", Err: &control.Invalid{Faults: faults}}
	}
	return nil
}

// recorded is what became of events.
type recorded struct {
	Items     []ledger.EventResult `json:"items"`
	Duplicate bool                 `json:"duplicate,omitempty" doc:"Every event was there already."`
}

func (s *rest) recordEvents(ctx context.Context, in *struct {
	ContentType string `header:"Content-Type" doc:"Of the body."`
	RawBody     []byte
},
) (*made[recorded], error) {
	media := mediaType(in.ContentType)
	if media == jsonType { // one by its form
		if media = ledger.EventType; bytes.HasPrefix(bytes.TrimSpace(in.RawBody), []byte("[")) {
			media = eventsType
		}
	}
	events, err := ledger.ReadEvents(media, bytes.NewReader(in.RawBody))
	if err != nil {
		return nil, err
	}
	known := map[gatehouse.TenantID]error{}
	results := make([]ledger.EventResult, len(events))
	var sound []ledger.Event
	var at []int
	for i := range events {
		id := events[i].Tenant
		err, seen := known[id]
		if !seen {
			_, err = s.Plane.Tenant(ctx, id)
			known[id] = err
		}
		switch gatehouse.CodeOf(err) {
		case "":
			sound, at = append(sound, events[i]), append(at, i)
		case gatehouse.CodeNotFound, gatehouse.CodeInvalid:
			results[i] = ledger.EventResult{Source: events[i].Source, ID: events[i].ID, Verdict: ledger.Invalid, Reason: "there is no such tenant"}
		default:
			return nil, err
		}
	}
	if len(sound) > 0 {
		l, err := s.Ledger.open(ctx)
		if err != nil {
			return nil, err
		}
		verdicts, err := l.Record(ctx, sound)
		if err != nil {
			return nil, err
		}
		for i, v := range verdicts {
			results[at[i]] = v
		}
	}
	return answerEvents(results, media == ledger.EventType)
}

// answerEvents says what became of one event by the status. A batch is taken
// as far as it can be: its answer says so of each.
func answerEvents(results []ledger.EventResult, single bool) (*made[recorded], error) {
	out := &made[recorded]{Status: http.StatusOK, Body: recorded{Items: results}}
	out.Body.Duplicate = !slices.ContainsFunc(results, func(r ledger.EventResult) bool { return r.Verdict != ledger.Duplicate })
	if !single || len(results) != 1 {
		return out, nil
	}
	switch r := results[0]; r.Verdict {
	case ledger.Recorded:
		out.Status = http.StatusCreated
	case ledger.Conflict:
		return nil, &gatehouse.Error{Code: gatehouse.CodeConflict, Message: "another event has this source and id"}
	case ledger.Invalid:
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the event cannot be recorded: " + r.Reason}
	}
	return out, nil
}

// ledgerUsage answers usage where tenants come from documents.
func (s *server) ledgerUsage(w http.ResponseWriter, r *http.Request, id gatehouse.TenantID) {
	refuse := func(err error) {
		p := problemOf(err)
		if p.Status >= http.StatusInternalServerError {
			s.Log.Error("control API", "error", err)
		}
		s.fail(w, p.Status, p.Code, p.Detail)
	}
	var in UsageQuery
	if err := in.of(r.URL.Query()); err != nil {
		refuse(err)
		return
	}
	q, err := in.query(id, time.Now())
	if err != nil {
		refuse(err)
		return
	}
	l, err := s.Ledger.open(r.Context())
	if err != nil {
		refuse(err)
		return
	}
	out, err := render(r.Context(), l, q, r.Header.Get("Accept"))
	if err != nil {
		refuse(err)
		return
	}
	w.Header().Set("Content-Type", out.media)
	if link := (&Origin{*r.URL}).page("cursor", out.next); link != "" {
		w.Header().Set("Link", link)
	}
	s.write(w, out.body)
}
