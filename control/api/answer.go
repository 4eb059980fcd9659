package api

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// one is a body with its ETag.
type one[T any] struct {
	ETag string `header:"ETag" doc:"For If-Match."`
	Body T
}

func tagged[T any](v T, revision uint64, err error) (*one[T], error) {
	if err != nil {
		return nil, err
	}
	a := &one[T]{Body: v}
	if revision > 0 {
		a.ETag = `"` + strconv.FormatUint(revision, 10) + `"`
	}
	return a, nil
}

// made is one whose status depends on whether it was made.
type made[T any] struct {
	Status int
	ETag   string `header:"ETag" doc:"For If-Match."`
	Body   T
}

// madeOf answers 201, or 200 to a dry run.
func madeOf[T any](v T, meta *control.Meta, err error) (*made[T], error) {
	if err != nil {
		return nil, err
	}
	a := &made[T]{Status: http.StatusCreated, Body: v}
	if meta.Preview != nil {
		a.Status = http.StatusOK
		return a, nil
	}
	a.ETag = `"` + strconv.FormatUint(meta.Revision, 10) + `"`
	return a, nil
}

// gone answers a removal: 204, or 200 and what it would do.
type gone struct {
	Status int
	Body   *control.Preview
}

func goneOf(preview *control.Preview, err error) (*gone, error) {
	if err != nil {
		return nil, err
	}
	if preview == nil {
		return &gone{Status: http.StatusNoContent}, nil
	}
	return &gone{Status: http.StatusOK, Body: preview}, nil
}

// Paging is what lists take.
type Paging struct {
	Cursor string `query:"cursor" maxLength:"2000" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most so many."`

	Origin
}

// Origin is the URL of a list.
type Origin struct{ url url.URL }

// Resolve notes it.
func (l *Origin) Resolve(ctx huma.Context) []error {
	l.url = ctx.URL()
	return nil
}

var _ huma.Resolver = (*Origin)(nil)

// listing is a page with a link to the next.
type listing[T any] struct {
	Link string `header:"Link" doc:"The next page (RFC 8288)."`
	Body control.Page[T]
}

// page answers a page whose next is asked for by a parameter.
func (l *Origin) page(parameter, next string) string {
	if next == "" {
		return ""
	}
	u := l.url
	q := u.Query()
	q.Set(parameter, next)
	return "<" + u.Path + "?" + q.Encode() + `>; rel="next"`
}

func paged[T any](in *Paging, p control.Page[T], err error) (*listing[T], error) {
	if err != nil {
		return nil, err
	}
	return &listing[T]{Link: in.page("cursor", p.Next), Body: p}, nil
}
