package configs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// File is one tenant document as read: its plans and tenants, with the key
// files they name read in.
type File struct {
	Path     string
	Document gatehouse.Document
	// Problems of form and of key files. What needs the other files is found
	// by Join.
	Problems Problems
	// Inputs are the files that were read: the document, then its key files.
	Inputs []Input
	text   *Text
	broken []string  // pointers of values that could not be read
	sum    hash.Hash // of the contents of Inputs; nil: not of files
}

// Input is a file as it was when it was read.
type Input struct {
	Path string
	read time.Time
	mod  time.Time
	size int64       // -1: the file was not there
	info os.FileInfo // nil: the same
}

// racy is how fresh a modification time may be for a second write to leave
// it, and the size, as they are: clocks of file systems tick coarsely.
const racy = 100 * time.Millisecond

func newInput(path string) Input {
	in := Input{Path: path, read: time.Now(), size: -1}
	if info, err := os.Stat(path); err == nil {
		in.mod, in.size, in.info = info.ModTime(), info.Size(), info
	}
	return in
}

// Disk is one look at what lies on disk: files that many documents name are
// looked at once.
type Disk struct{ seen map[string]Input }

// NewDisk returns a look that has seen nothing yet.
func NewDisk() *Disk { return &Disk{map[string]Input{}} }

func (d *Disk) input(path string) Input {
	in, seen := d.seen[path]
	if !seen {
		in = newInput(path)
		d.seen[path] = in
	}
	return in
}

// Changed reports whether one of the inputs may differ from what was read.
func (f *File) Changed(d *Disk) bool {
	for _, was := range f.Inputs {
		is := d.input(was.Path)
		if is.size != was.size || !is.mod.Equal(was.mod) || was.read.Sub(was.mod) < racy || is.info != nil && !os.SameFile(is.info, was.info) {
			return true
		}
	}
	return false
}

// Empty reports whether the file defines nothing.
func (f *File) Empty() bool { return len(f.Document.Plans)+len(f.Document.Tenants) == 0 }

// Blank reports whether the file has nothing in it but comments: it may be in
// the middle of being written.
func (f *File) Blank() bool { return f.text.blank }

// Refuse adds a fault of the file as a whole.
func (f *File) Refuse(reason, hint string) {
	f.Problems = append(f.Problems, Problem{Place: Place{File: f.Path}, Reason: reason, Hint: hint})
}

// ReadFile reads one document. It does not fail: what is wrong is in
// File.Problems, a file that cannot be read at all among it.
func ReadFile(path string) *File {
	f := &File{Path: path, text: &Text{name: path}, Inputs: []Input{newInput(path)}, sum: sha256.New()}
	source, err := f.read(path)
	if err != nil {
		f.Problems = Problems{{Place: Place{File: path}, Reason: "cannot be read: " + cause(err)}}
		return f
	}
	return f.parse(source)
}

// ReadAgain is ReadFile of a file that may have been read before, which is
// returned where its contents, and those of the files that it names, are what
// they were. last may be nil.
func ReadAgain(path string, last *File) *File {
	if last == nil || len(last.Problems) > 0 {
		return ReadFile(path)
	}
	f := &File{sum: sha256.New()}
	for _, in := range last.Inputs {
		f.Inputs = append(f.Inputs, newInput(in.Path))
		if _, err := f.read(in.Path); err != nil {
			return ReadFile(path)
		}
	}
	if !bytes.Equal(f.sum.Sum(nil), last.sum.Sum(nil)) {
		return ReadFile(path)
	}
	last.Inputs = f.Inputs
	return last
}

// read returns the contents of a file, which enter the sum.
func (f *File) read(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err == nil && f.sum != nil {
		sum := sha256.Sum256(b)
		_, _ = f.sum.Write(sum[:]) // it never fails
	}
	return b, err
}

// Parse is ReadFile over a text at hand; key files are relative to path.
func Parse(path string, source []byte) *File {
	return (&File{Path: path}).parse(source)
}

func (f *File) parse(source []byte) *File {
	t, faults := decode(f.Path, source, &f.Document, decoder{strictInts: true})
	f.text = t
	for _, fault := range faults {
		f.broken = append(f.broken, fault.Pointer)
	}
	for i := range f.Document.Tenants {
		faults = append(faults, f.readFiles(gatehouse.Pointer("tenants", i), &f.Document.Tenants[i])...)
	}
	f.Problems = t.Locate(faults)
	return f
}

// readFiles puts the files that a tenant names into it.
func (f *File) readFiles(at string, t *gatehouse.Tenant) (faults gatehouse.Faults) {
	for i := range t.Identity.JWT {
		faults = append(faults, f.readKeys(at+gatehouse.Pointer("identity", "jwt", i), &t.Identity.JWT[i])...)
	}
	text := func(at, name string, to *string) {
		b, more := f.readNamed(at, name)
		*to, faults = string(b), append(faults, more...)
	}
	if c := t.Identity.ClientCertificates; c != nil {
		text(at+"/identity/client_certificates/ca_file", c.CAFile, &c.CA)
	}
	if i := t.Identity.Introspection; i != nil {
		secret, more := f.readSecret(at+"/identity/introspection/client_secret_file", i.ClientSecretFile)
		i.ClientSecret, faults = secret, append(faults, more...)
	}
	key, more := f.readSecret(at+"/identity/forward/key_file", t.Identity.Forward.KeyFile)
	t.Identity.Forward.Key, faults = key, append(faults, more...)
	for i := range t.Backends {
		at, b := at+gatehouse.Pointer("backends", i, "tls"), &t.Backends[i].TLS
		text(at+"/ca_file", b.CAFile, &b.CA)
		text(at+"/cert_file", b.CertFile, &b.Cert)
		key, more := f.readNamed(at+"/key_file", b.KeyFile)
		b.Key, faults = gatehouse.Secret(key), append(faults, more...)
	}
	return faults
}

// readNamed reads a file that the document names, relative to itself; "" is
// none.
func (f *File) readNamed(at, name string) ([]byte, gatehouse.Faults) {
	if name == "" {
		return nil, nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(f.Path), name)
	}
	name = filepath.Clean(name)
	f.Inputs = append(f.Inputs, newInput(name))
	b, err := f.read(name)
	if err == nil {
		return b, nil
	}
	fault := gatehouse.Fault{Pointer: at, Reason: fmt.Sprintf("key file %s cannot be read: %s", name, cause(err))}
	if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(at, "/jwks_file") {
		fault.Warning, fault.Hint = true, "tokens of this issuer are refused until the file is there"
	}
	return nil, gatehouse.Faults{fault}
}

// readKeys puts the issuer's key files into it. A key set that does not exist
// yet is a warning: its issuer's tokens are refused until it does.
func (f *File) readKeys(at string, s *gatehouse.Issuer) gatehouse.Faults {
	jwks, faults := f.readNamed(at+"/jwks_file", s.JWKSFile)
	if jwks != nil && len(bytes.TrimSpace(jwks)) == 0 {
		faults = gatehouse.Faults{{
			Pointer: at + "/jwks_file", Reason: fmt.Sprintf("key file %s is empty", s.JWKSFile),
			Hint: "tokens of this issuer are refused until it has keys", Warning: true,
		}}
	}
	s.JWKS = string(bytes.TrimSpace(jwks))
	var more gatehouse.Faults
	s.Secret, more = f.readSecret(at+"/secret_file", s.SecretFile)
	return append(faults, more...)
}

// readSecret is readNamed for a secret, less one trailing newline; nil where
// it cannot be read.
func (f *File) readSecret(at, name string) (gatehouse.Secret, gatehouse.Faults) {
	secret, faults := f.readNamed(at, name)
	if secret == nil {
		return nil, faults
	}
	return gatehouse.Secret(bytes.TrimSuffix(bytes.TrimSuffix(secret, []byte("\n")), []byte("\r"))), faults
}

// cause is err without the operation and path, which the message has.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// Set is several files as one document.
type Set struct {
	Checked
	Document gatehouse.Document
}

// Load reads each path, a file or a folder (its *.yaml, *.yml and *.json, not
// those of folders below it), and joins them.
func Load(paths ...string) *Set {
	var files []*File
	var problems Problems
	for _, path := range paths {
		names, err := Names(path)
		switch {
		case err != nil && len(names) == 0: // else reading names says it
			problems = append(problems, Problem{Place: Place{File: path}, Reason: "cannot be read: " + cause(err)})
		case err == nil && len(names) == 0:
			problems = append(problems, Problem{Place: Place{File: path}, Reason: "no documents here", Hint: "files *.yaml, *.yml and *.json are read", Warning: true})
		}
		for _, name := range names {
			files = append(files, ReadFile(name))
		}
	}
	s := Join(files...)
	s.Problems = append(problems, s.Problems...)
	return s
}

// Names returns the document files of path: itself, or a folder's, sorted.
func Names(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && IsDocument(e.Name()) {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	return names, nil
}

// IsDocument reports whether a file of this name in a folder is read as a
// document: *.yaml, *.yml or *.json, not hidden.
func IsDocument(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml" || ext == ".json") && !strings.HasPrefix(filepath.Base(name), ".")
}

// Join makes one document of files and validates it.
func Join(files ...*File) *Set {
	c := new(Checker).Check(files...)
	return &Set{Checked: *c, Document: c.document()}
}
