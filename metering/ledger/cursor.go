package ledger

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
)

// cursor is where the items of a query go on: in the window that begins at
// At, after the group After; nil: with its first group.
type cursor struct {
	At    int64    `json:"a"`
	After []string `json:"g,omitempty"`
	// Query is the query's fingerprint.
	Query string `json:"q"`
}

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(array(c)))
}

var errCursor = errors.New("the cursor is not of this query")

func (a *asked) readCursor() (cursor, error) {
	c := cursor{At: a.from, Query: a.fingerprint()}
	if a.Cursor == "" {
		return c, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(a.Cursor)
	if err != nil {
		return c, errCursor
	}
	var told cursor
	if json.Unmarshal(b, &told) != nil || told.Query != c.Query || told.At < a.from || told.At >= a.to ||
		told.After != nil && len(told.After) != len(a.GroupBy) {
		return c, errCursor
	}
	return told, nil
}

// fingerprint tells queries apart whose items differ.
func (a *asked) fingerprint() string {
	tenants := slices.Sorted(slices.Values(a.Tenants))
	sum := sha256.Sum256([]byte(array([]any{tenants, a.Meter, a.from, a.to, a.Window, a.Zone.String(), a.GroupBy, a.Filter})))
	return hex.EncodeToString(sum[:8])
}
