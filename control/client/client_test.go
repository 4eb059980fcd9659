package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control/client"
)

func newClient(t *testing.T, handler http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	c, err := client.New(client.Config{Server: s.URL, Token: "secret", Agent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a call sends.
func TestCall(t *testing.T) {
	var got string
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what came is compared
		got = fmt.Sprintf("%s %s\n%s %s %s\n%s\n%s", r.Method, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("If-Match"), r.UserAgent(), r.Header.Get("Content-Type"), body)
		w.Header().Set("ETag", `"7"`)
		_, _ = io.WriteString(w, `{"id":"k"}`) // the test reads it
	})
	answer, err := c.Do(t.Context(), client.Call{
		Operation: client.PatchKey, Path: []string{"a/b", "k"}, Query: url.Values{"dry_run": {"true"}}, Match: `"6"`, Body: map[string]any{"name": "n"},
	})
	want := "PATCH /api/v1/tenants/a%2Fb/keys/k?dry_run=true\nBearer secret \"6\" test/1\napplication/json\n{\"name\":\"n\"}"
	if err != nil || got != want || answer.ETag != `"7"` || string(answer.Body) != `{"id":"k"}` {
		t.Errorf("%v %+v\ngot:\n%s\nwant:\n%s", err, answer, got, want)
	}
	for _, bad := range []string{"", ".", ".."} {
		if _, err := c.Do(t.Context(), client.Call{Operation: client.GetTenant, Path: []string{bad}}); gatehouse.CodeOf(err) != gatehouse.CodeBadRequest {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// An error answer becomes an error with its code and faults.
func TestProblem(t *testing.T) {
	f := func(status int, contentType, body string, code gatehouse.Code, says string) {
		t.Helper()
		c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body) // the test reads it
		})
		_, err := c.Do(t.Context(), client.Call{Operation: client.ListPlans})
		if gatehouse.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
			t.Errorf("%d %s: %v", status, body, err)
		}
	}
	f(422, "application/problem+json", `{"code":"GH-CP-001","detail":"the body has faults","faults":[{"pointer":"/id","reason":"id is missing"}]}`, gatehouse.CodeInvalid, "/id: id is missing")
	f(404, "application/problem+json", `{"code":"GH-CP-002","title":"Not found"}`, gatehouse.CodeNotFound, "Not found")
	f(502, "text/html", `<h1>Bad Gateway</h1>`, gatehouse.CodeUnavailable, "502 Bad Gateway")
	f(302, "text/html", `moved`, gatehouse.CodeInternal, "302 Found")
}

// A change is sent again, under the same key, until it is answered; a refusal
// is not sent again.
func TestRetry(t *testing.T) {
	var keys []string
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		switch len(keys) {
		case 1:
			panic(http.ErrAbortHandler) // done, perhaps, but not answered
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			_, _ = io.WriteString(w, `{}`) // the test reads it
		default:
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"code":"GH-CP-003","detail":"exists"}`) // the test reads it
		}
	})
	if _, err := c.Do(t.Context(), client.Call{Operation: client.CreateTenant, Body: map[string]any{}}); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 3 || len(keys[0]) < 20 || keys[0] != keys[1] || keys[1] != keys[2] {
		t.Errorf("keys: %q", keys)
	}
	if _, err := c.Do(t.Context(), client.Call{Operation: client.CreateTenant}); gatehouse.CodeOf(err) != gatehouse.CodeConflict || len(keys) != 4 || keys[3] == keys[0] {
		t.Errorf("%v, keys: %q", err, keys)
	}
}

// Nobody there is unavailable, and an ended context is itself.
func TestUnreachable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c, err := client.New(client.Config{Server: s.URL, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), client.Call{Operation: client.ListPlans}); gatehouse.CodeOf(err) != gatehouse.CodeUnavailable || !strings.Contains(err.Error(), s.URL) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Do(ctx, client.Call{Operation: client.ListPlans}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Pages are followed by their links, under the filters of the first.
func TestItems(t *testing.T) {
	var asked []string
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Encode())
		n := len(asked)
		if n < 3 {
			w.Header().Set("Link", fmt.Sprintf(`</api/v1/revisions?before=%d>; rel="next"`, n))
		}
		fmt.Fprintf(w, `{"items":[%d,%d]}`, n*10, n*10+1)
	})
	var got []string
	for item, err := range c.Items(t.Context(), client.Call{Operation: client.ListRevisions, Query: url.Values{"actor": {"x"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(item))
	}
	if text := fmt.Sprint(got, asked); text != "[10 11 20 21 30 31] [actor=x actor=x&before=1 actor=x&before=2]" {
		t.Error(text)
	}
}

// A token does not leave the machine in clear, nor does a URL with a path pass.
func TestServer(t *testing.T) {
	f := func(server string, ok bool) {
		t.Helper()
		if _, err := client.New(client.Config{Server: server, Token: "t"}); (err == nil) != ok {
			t.Errorf("%s: %v", server, err)
		}
	}
	f("https://control.example.com:9090", true)
	f("https://control.example.com:9090/", true)
	f("http://127.0.0.1:9090", true)
	f("http://[::1]:9090", true)
	f("http://localhost:9090", true)
	f("http://control.example.com:9090", false)
	f("http://127.0.0.1.example.com", false)
	f("https://control.example.com/path", false)
	f("control.example.com", false)
	f("ftp://127.0.0.1", false)
	f("", false)
}
