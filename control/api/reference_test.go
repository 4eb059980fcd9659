package api

import (
	"context"
	"encoding/json"
	"iter"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// given are functions that a process with a data plane gives.
func given(r *REST) {
	r.Usage = func(_ context.Context, id gatehouse.TenantID) (metering.Usage, error) {
		return metering.Usage{Tenant: id, Routes: []metering.RouteUsage{}, Principals: []metering.PrincipalUsage{}}, nil
	}
	r.Explain = func(context.Context, control.Request) (control.Explanation, error) {
		return control.Explanation{Tenant: "studio", Phases: []control.ExplainedPhase{{Phase: "admit", Outcome: "pass"}}}, nil
	}
	r.Traffic = func(context.Context, *control.TrafficReport) error { return nil }
	r.Analytics = func(_ context.Context, q control.AnalyticsQuery) (control.Analytics, error) {
		return control.Analytics{Tenant: q.Tenant, From: q.From, To: q.To, Step: int(q.Step.Seconds())}, nil
	}
	r.ShadowReport = func(context.Context, gatehouse.TenantID) (json.RawMessage, error) {
		return json.RawMessage(`{"decided":1}`), nil
	}
	r.Decisions = func(_ context.Context, _ gatehouse.TenantID, limit int) (iter.Seq[json.RawMessage], error) {
		return func(yield func(json.RawMessage) bool) {
			for i := range limit {
				if !yield(json.RawMessage(`{"decision_id":"` + strconv.Itoa(i) + `"}`)) {
					return
				}
			}
		}, nil
	}
	r.Replay = func(_ context.Context, _ gatehouse.TenantID, modules []gatehouse.Module) (json.RawMessage, error) {
		return json.Marshal(map[string]int{"entries": len(modules)})
	}
}

// TestReference runs the examples of the reference from top to bottom, and
// wants one for each operation.
func TestReference(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/api.md")
	if err != nil {
		t.Fatal(err)
	}
	s := startWith(t, "", given)
	s.billAt("2026-04-15") // of the examples
	for _, op := range operations(newREST(s.parts).api.OpenAPI()) {
		if !strings.Contains(string(text), "### "+op.OperationID+"\n") {
			t.Errorf("api.md does not tell of %s", op.OperationID)
		}
	}
	for _, example := range regexp.MustCompile("(?s)```http\n(.*?)\n```\n\nAnswers (\\d+)").FindAllStringSubmatch(string(text), -1) {
		if w := s.ask(example[1]); strconv.Itoa(w.Code) != example[2] {
			t.Errorf("%s\nanswers %d, not %s: %s", example[1], w.Code, example[2], w.Body)
		}
	}
}

// Functions of the process are asked about tenants that exist, and told apart
// from what is not there.
func TestInsight(t *testing.T) {
	s := startWith(t, "", given)
	s.made("POST /api/v1/tenants\n\n" + `{"id": "studio"}`)
	s.made("POST /api/v1/tenants\n\n" + `{"id": "other"}`)
	for request, want := range map[string]string{
		"GET /api/v1/tenants/none/usage":                                                                                               `"code":"GH-CP-002"`,
		"GET /api/v1/tenants/studio/usage":                                                                                             `"tenant":"studio"`,
		"GET /api/v1/tenants/studio/policies/decisions?limit=2":                                                                        "{\"decision_id\":\"0\"}\n{\"decision_id\":\"1\"}\n",
		"GET /api/v1/tenants/studio/analytics?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z":                                       `"code":"GH-CP-001"`,
		"GET /api/v1/tenants/studio/analytics?from=2020-01-02T00:00:00Z":                                                               `"code":"GH-CP-001"`,
		"GET /api/v1/tenants/studio/analytics?step=59":                                                                                 `/query/step`,
		"POST /api/v1/explain\n\n" + `{"url": "http://studio.test/"}`:                                                                  `"tenant":"studio"`,
		"POST /api/v1/explain\nAuthorization: Bearer " + s.token(control.Viewer, "studio") + "\n\n" + `{"url": "http://studio.test/"}`: `"tenant":"studio"`,
		"POST /api/v1/explain\nAuthorization: Bearer " + s.token(control.Viewer, "other") + "\n\n" + `{"url": "http://studio.test/"}`:  `"code":"GH-CP-007"`,
	} {
		if got := s.ask(request).Body.String(); !strings.Contains(got, want) {
			t.Errorf("%s: %s", request, got)
		}
	}
}

// Every code has its section in the reference, with its status, below the
// heading that its type leads to; and the reference knows no others.
func TestProblems(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	for code, p := range gatehouse.Problems {
		at := regexp.MustCompile("(?m)^`" + string(code) + "` · " + strconv.Itoa(p.Status) + `\b`).FindIndex(text)
		if at == nil {
			t.Errorf("problems.md has no %s · %d", code, p.Status)
			continue
		}
		_, anchor, ours := strings.Cut(p.Type, "problems.md#")
		above := string(text[:at[0]])
		if heading := above[strings.LastIndex(above, "\n## ")+1:]; ours && strings.TrimSpace(heading) != "## "+anchor {
			t.Errorf("%s is below %q, and its type leads to %s", code, heading, anchor)
		}
	}
	for _, code := range regexp.MustCompile("(?m)^`(GH-[A-Z]{2}-[0-9]{3})`").FindAllSubmatch(text, -1) {
		if _, ok := gatehouse.Problems[gatehouse.Code(code[1])]; !ok {
			t.Errorf("there is no %s", code[1])
		}
	}
}
