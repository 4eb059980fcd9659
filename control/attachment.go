package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// File is one that a tenant's document names.
type File struct {
	// Name is what the document calls it.
	Name string `json:"name"`
	// SHA256 of the content, in hexadecimal; absent for secrets.
	SHA256 string `json:"sha256,omitempty"`
	// Secret says that its content is never shown.
	Secret bool `json:"secret,omitempty"`
}

// fileRecord is the content of a file: in clear, or sealed.
type fileRecord struct {
	Text   string `json:"text,omitempty"`
	Sealed []byte `json:"sealed,omitempty"`
}

// shownFiles lists files without their contents.
func shownFiles(files map[string]fileRecord) []File {
	var out []File
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := File{Name: name, Secret: files[name].Sealed != nil}
		if !f.Secret {
			sum := sha256.Sum256([]byte(files[name].Text))
			f.SHA256 = hex.EncodeToString(sum[:])
		}
		out = append(out, f)
	}
	return out
}

// attach fills in the contents of the files that the document names.
func (p *Plane) attach(r *tenantRecord) error {
	for _, a := range r.Document.Attachments() {
		f, ok := r.Files[a.Name]
		switch {
		case !ok:
		case f.Sealed == nil:
			a.Set([]byte(f.Text))
		default:
			secret, err := p.box.open(string(r.Document.ID)+"/"+a.Name, f.Sealed)
			if err != nil {
				return err
			}
			a.Set(secret)
		}
	}
	return nil
}

// keep stores the contents of the files that the document names: those given,
// and for the others those of before. What it does not name is dropped.
func (p *Plane) keep(r *tenantRecord, given map[string][]byte, before map[string]fileRecord) gatehouse.Faults {
	r.Files = nil
	named := map[string]bool{}
	var faults gatehouse.Faults
	for _, a := range r.Document.Attachments() {
		named[a.Name] = true
		f, ok := before[a.Name]
		if content, has := given[a.Name]; has {
			f, ok = fileRecord{Text: string(content)}, true
			if a.Secret() {
				f = fileRecord{Sealed: p.box.seal(string(r.Document.ID)+"/"+a.Name, bytes.TrimSuffix(content, []byte("\n")))}
			}
			if was, had := before[a.Name]; had && p.sameFile(r.Document.ID, a.Name, was, f) {
				f = was
			}
		}
		if !ok {
			faults = append(faults, gatehouse.Fault{
				Pointer: a.Pointer, Reason: fmt.Sprintf("the content of file %q is missing", a.Name), Hint: "send it under files",
				Warning: strings.HasSuffix(a.Pointer, "/jwks_file"),
			})
			continue
		}
		if a.Secret() != (f.Sealed != nil) {
			faults = append(faults, gatehouse.Fault{Pointer: a.Pointer, Reason: fmt.Sprintf("file %q is a secret in one place and not in another", a.Name)})
			continue
		}
		if r.Files == nil {
			r.Files = map[string]fileRecord{}
		}
		r.Files[a.Name] = f
	}
	for name := range given {
		if !named[name] {
			faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer("files", name), Reason: "the document names no such file"})
		}
	}
	return faults
}
