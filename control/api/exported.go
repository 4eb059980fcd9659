package api

import (
	"encoding/json"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
)

// What is read may be sent back as it is: the parts of it that nobody sets are
// passed over, whatever they say.

// readOnly is what an answer tells of every stored thing.
type readOnly struct {
	// Revision, Created and Updated are of the stored thing.
	Revision uint64    `json:"revision,omitempty" readOnly:"true" doc:"Of answers; passed over."`
	Created  time.Time `json:"created,omitzero" readOnly:"true" doc:"Of answers; passed over."`
	Updated  time.Time `json:"updated,omitzero" readOnly:"true" doc:"Of answers; passed over."`
}

// planBody is a plan's document.
type planBody struct {
	gatehouse.Plan
	readOnly
}

// tenantBody is a tenant's document with the contents of the files that it
// names.
type tenantBody struct {
	gatehouse.Tenant
	readOnly
	// NotEnforced, Deletion and Warnings are of the stored tenant.
	NotEnforced []string          `json:"not_enforced,omitempty" readOnly:"true" doc:"Of answers; passed over."`
	Deletion    *control.Deletion `json:"deletion,omitempty" readOnly:"true" doc:"Of answers; passed over."`
	Warnings    gatehouse.Faults  `json:"warnings,omitempty" readOnly:"true" doc:"Of answers; passed over."`
	// Files are contents by the name that the document has for them. Those of
	// secrets are stored sealed and never shown.
	Files files `json:"files,omitempty" doc:"Contents by the name that the document has for them; those left out stay. The list that answers have is passed over."`
}

// files are contents by name; nil: none is given.
type files map[string]string

// UnmarshalJSON takes the list of answers too, as none.
func (f *files) UnmarshalJSON(text []byte) error {
	into := any((*map[string]string)(f))
	if text[0] == '[' {
		into = new([]control.File)
	}
	if faults := control.Decode(text, into); len(faults) > 0 {
		return faults
	}
	return nil
}

func (f files) contents() map[string][]byte {
	out := map[string][]byte{}
	for name, text := range f {
		out[name] = []byte(text)
	}
	return out
}

// ofAnswers are the members of a tenant that a patch has no use for.
var ofAnswers = [...]string{"revision", "created", "updated", "not_enforced", "deletion", "warnings"}

// setting takes what is of answers out of a patch, and its files.
func setting(patch map[string]json.RawMessage) (files, error) {
	for _, name := range ofAnswers {
		delete(patch, name)
	}
	var f files
	given, ok := patch["files"]
	if !ok {
		return nil, nil
	}
	delete(patch, "files")
	var body struct {
		Files files `json:"files"`
	}
	text, err := json.Marshal(map[string]json.RawMessage{"files": given})
	if err != nil {
		return nil, err
	}
	err = refusedBody(control.Decode(text, &body))
	f = body.Files
	return f, err
}
