package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// Operation is one of the API's: its method and its path, with {names} where
// a call puts its values. operations.go has them all, made from
// control/api/openapi.json.
type Operation string

// expand puts values into the path.
func (o Operation) expand(values []string) (method, path string, err error) {
	method, template, _ := strings.Cut(string(o), " ")
	var b strings.Builder
	for i, part := range strings.Split(template, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		if !strings.HasPrefix(part, "{") {
			b.WriteString(part)
			continue
		}
		if len(values) == 0 || values[0] == "" || values[0] == "." || values[0] == ".." {
			return "", "", &gatehouse.Error{Code: gatehouse.CodeBadRequest, Message: fmt.Sprintf("no %s is given", strings.Trim(part, "{}"))}
		}
		b.WriteString(url.PathEscape(values[0]))
		values = values[1:]
	}
	if len(values) > 0 {
		panic("client: too many values for " + string(o))
	}
	return method, b.String(), nil
}

// Items yields the items of a list, page by page. After an error it ends.
func (c *Client) Items(ctx context.Context, call Call) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		query := url.Values{}
		maps.Copy(query, call.Query)
		call.Query = query
		for {
			answer, err := c.Do(ctx, call)
			var page struct {
				Items []json.RawMessage `json:"items"`
			}
			if err == nil {
				err = answer.Into(&page)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if answer.Link == nil {
				return
			}
			maps.Copy(query, answer.Link) // the filters stay
		}
	}
}

// nextLink is the query of the link to the next page (RFC 8288).
func nextLink(h http.Header) url.Values {
	for _, link := range h.Values("Link") {
		target, parameters, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
		if !ok || !strings.Contains(parameters, `rel="next"`) {
			continue
		}
		if u, err := url.Parse(target); err == nil && u.RawQuery != "" {
			return u.Query()
		}
	}
	return nil
}
