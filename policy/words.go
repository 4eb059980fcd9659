package policy

import (
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

// words keeps the terms of short texts that a tenant's requests have in
// common: its id, plan, routes, hosts and methods. A text has one place, and
// takes it from another.
type words [16]atomic.Pointer[word]

type word struct {
	text string
	term *ast.Term // read-only
}

const maxWord = 64 // bytes

func wordTerm[S string | []byte](ws *words, text S) *ast.Term {
	if len(text) == 0 || len(text) > maxWord {
		return ast.StringTerm(string(text))
	}
	slot := &ws[(len(text)*7+int(text[0])+3*int(text[len(text)-1]))%len(ws)]
	if w := slot.Load(); w != nil && w.text == string(text) {
		return w.term
	}
	w := &word{text: string(text)}
	w.term = ast.StringTerm(w.text)
	slot.Store(w)
	return w.term
}
