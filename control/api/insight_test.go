package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control"
)

// Data planes and hosts are the platform's: who is of one tenant is told what
// they come to, and not their names.
func TestGatewaysOfTenants(t *testing.T) {
	s := start(t, "")
	s.made("POST /api/v1/tenants\n\n" + `{"id": "own"}`)
	s.tokenOf("edge-1")
	questions, deaf := s.parts.Gateways.Questions("edge-2")
	defer deaf()
	go func() {
		for range 4 {
			q := <-questions
			a := control.Answer{ID: q.ID, Health: &control.LiveHealth{Status: "healthy"}}
			if q.Topic == control.TopicMetrics {
				a = control.Answer{ID: q.ID, Metrics: &control.LiveMetrics{}}
			}
			_ = s.parts.Gateways.Answer("edge-2", a) // who asked may have gone
		}
	}()
	all, one := s.token(control.Viewer), s.token(control.Viewer, "own")
	for _, what := range []string{"metrics", "health"} {
		for token, names := range map[string]bool{all: true, one: false} {
			w := s.ask("GET /api/v1/tenants/own/" + what + "\nAuthorization: Bearer " + token)
			var got struct {
				DataPlanes int    `json:"data_planes"`
				Status     string `json:"status"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || got.DataPlanes == 0 && got.Status != "healthy" {
				t.Errorf("%s: %d %s", what, w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), "edge-") != names {
				t.Errorf("%s, of all tenants %t: %s", what, names, w.Body)
			}
		}
	}
}
