package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control"
)

// Bodies are bounded and bounds are told, whatever comes over the line.
func TestBounds(t *testing.T) {
	s := start(t, "")
	url := s.served(10 * time.Second)
	raw := func(text string) string {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, text)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d %s", answer.StatusCode, body)
	}
	head := func(path, framing string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + s.owner + "\r\n" + framing + "\r\n\r\n"
	}
	for _, tt := range []struct{ what, request, want string }{
		{"a body that is too large", head("/api/v1/plans", "Content-Length: 5000000") + strings.Repeat(" ", 5_000_000), `413 {"type":"https`},
		{"chunks that are too large", head("/api/v1/plans", "Transfer-Encoding: chunked") + "4c4b40\r\n" + strings.Repeat(" ", 5_000_000) + "\r\n0\r\n\r\n", "413 "},
		{"a body that breaks off", head("/api/v1/plans", "Content-Length: 100") + `{"id":`, `400 {"type":"https`},
		{"chunks that break off", head("/api/v1/plans", "Transfer-Encoding: chunked") + "zz\r\n", "400 "},
		{"an encoding that nobody takes", head("/api/v1/plans", "Content-Length: 2\r\nContent-Type: application/xml") + "{}", "415 "},
		{"a media type that is none", head("/api/v1/plans", "Content-Length: 2\r\nContent-Type: ;;") + "{}", "415 "},
	} {
		if got := raw(tt.request); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %.300s", tt.what, got)
		}
	}
	if head, err := s.plane.Head(t.Context()); err != nil || head.Seq != 2 {
		t.Errorf("the journal is at %d, %v", head.Seq, err)
	}
}

// A listener on loopback answers to its own names only.
func TestLoopback(t *testing.T) {
	s := startWith(t, "", func(r *REST) { r.Loopback = true })
	if w := s.ask("GET http://rebound.example/api/v1/tenants"); w.Code != http.StatusMisdirectedRequest {
		t.Error(w.Code, w.Body)
	}
	if w := s.ask("GET http://localhost:9090/api/v1/tenants"); w.Code != http.StatusOK {
		t.Error(w.Code, w.Body)
	}
}

// Two scopes, one list: whoever asks for listed tenants gets them filtered.
func TestScopedList(t *testing.T) {
	s := start(t, "")
	for _, body := range []string{`{"id": "a", "plan": "free"}`, `{"id": "b", "status": "suspended"}`, `{"id": "c"}`} {
		s.made("POST /api/v1/tenants\n\n" + body)
	}
	token := s.token(control.Viewer, "a", "b")
	for query, want := range map[string]string{"": "ab", "?plan=free": "a", "?status=suspended": "b", "?status=active": "a", "?prefix=c": "", "?deleted=true": ""} {
		body := s.ask("GET /api/v1/tenants" + query + "\nAuthorization: Bearer " + token).Body.String()
		got := ""
		for _, id := range []string{"a", "b", "c"} {
			if strings.Contains(body, `"id":"`+id+`"`) {
				got += id
			}
		}
		if got != want {
			t.Errorf("%s: %s", query, body)
		}
	}
}
