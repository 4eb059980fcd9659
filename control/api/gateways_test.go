package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

const traffic = `{"epoch": "e", "first": 1, "minutes": []}`

// as is the status of a request with a token.
func (s *service) as(token, request string) int {
	s.t.Helper()
	head, body, _ := strings.Cut(request, "\n\n")
	return s.ask(head + "\nAuthorization: Bearer " + token + "\n\n" + body).Code
}

// A data plane's token is of the name that it was made for, or else that it
// uses first, at every control plane of the store.
func TestTokenOfGateway(t *testing.T) {
	s := startWith(t, "", given)
	for _, body := range []string{
		`{"role": "viewer", "gateway": "g1"}`, `{"role": "gateway", "gateway": "local"}`, `{"role": "gateway", "gateway": "` + strings.Repeat("g", 201) + `"}`,
	} {
		if w := s.ask("POST /api/v1/tokens\n\n" + body); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "/gateway") {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	made, err := s.plane.CreateToken(t.Context(), control.NewToken{ID: "late", Role: control.Gateway}, control.Mutation{Actor: "token:test"})
	if err != nil {
		t.Fatal(err)
	}
	asked := func(want ...int) {
		t.Helper()
		for i, path := range []string{"local", "g1", "g2"} {
			if got := s.as(made.Secret, "POST /api/v1/gateways/"+path+"/traffic\n\n"+traffic); got != want[i] {
				t.Errorf("traffic of %s: %d, want %d", path, got, want[i])
			}
		}
	}
	if got := s.as(made.Secret, "HEAD /api/v1/stream\nX-Gatehouse-Gateway: local"); got != http.StatusUnprocessableEntity {
		t.Errorf("local follows: %d", got)
	}
	asked(422, 204, 403)
	if w := s.ask("GET /api/v1/tokens/late"); !strings.Contains(w.Body.String(), `"gateway":"g1"`) {
		t.Error(w.Body)
	}
	if got := s.as(made.Secret, "HEAD /api/v1/stream\nX-Gatehouse-Gateway: g2"); got != http.StatusForbidden {
		t.Errorf("another follows: %d", got)
	}
	again, err := control.NewOperators(t.Context(), s.plane, func(context.Context, control.Access) (bool, string, error) { return true, "", nil })
	if err != nil {
		t.Fatal(err)
	}
	if c, err := again.Authenticate(t.Context(), made.Secret, "192.0.2.1"); c.Gateway != "g1" || err != nil {
		t.Errorf("after a restart: %+v %v", c, err)
	}
	asked(403, 204, 403)
}

// Usage of a data folder comes from the data plane that told of it first, by
// whatever token of its; no other seals it or adds to it.
func TestFolderOfGateway(t *testing.T) {
	var at *ledger.Ledger
	s := startWith(t, "", func(r *REST) {
		given(r)
		r.Ledger = func(context.Context) (*ledger.Ledger, error) { return at, nil }
		r.Log = slog.New(slog.DiscardHandler)
	})
	at = s.ledger
	const (
		of    = `"gateway": "%s", "epoch": "1-0000000000000001", "window": "2026-03-14T12:00:00Z"`
		cells = `{"cells": [{` + of + `, "tenant": "a", "meter": "requests", "value": "1"}]}`
		seals = `{"cells": [], "seals": [{` + of + `, "final": true}]}`
	)
	first, second := s.tokenOf("g1"), s.tokenOf("g2")
	for i, tt := range []struct {
		token, gateway, body, folder string
		want                         int
	}{
		{first, "g1", cells, "gw-1", 204},
		{second, "g2", seals, "gw-1", 403},
		{second, "g2", cells, "gw-1", 403},
		{second, "g2", seals, "gw-2", 204},
		{first, "g1", cells, "gw-2", 403},
		{first, "g1", cells, strings.Repeat("f", 65), 422},
		{s.tokenOf("g1"), "g1", seals, "gw-1", 204},
	} {
		if got := s.as(tt.token, "POST /api/v1/gateways/"+tt.gateway+"/usage\n\n"+fmt.Sprintf(tt.body, tt.folder)); got != tt.want {
			t.Errorf("%d: %d, want %d", i, got, tt.want)
		}
	}
}
