package control

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// Bounds of a bundle: bytes when unpacked, and files.
const (
	maxBundle      = 16 << 20
	maxBundleFiles = 1000
)

// Bundle reads a set of modules from a tar.gz in the form of OPA's bundles:
// every .rego file is a module, every _test.rego one a test, named by its path.
// A manifest is passed over. Data documents are not supported and refused, as
// are other files. Where Parts has a BundleKey the bundle must be signed by it.
func (p *Plane) Bundle(packed []byte) (NewPolicy, error) {
	files, err := unpack(packed)
	if err != nil {
		return NewPolicy{}, fault("", "the bundle cannot be read: "+err.Error(), "send a tar.gz with .rego files")
	}
	if p.signing != nil {
		if err := p.signing.verify(files); err != nil {
			return NewPolicy{}, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: "the bundle is not signed by the key that is configured", Err: err}
		}
	}
	var in NewPolicy
	var faults gatehouse.Faults
	for _, f := range files {
		m := gatehouse.Module{Name: strings.ReplaceAll(f.name, "/", "_"), Source: string(f.content)}
		switch base := path.Base(f.name); {
		case strings.HasSuffix(base, "_test.rego"):
			in.Tests = append(in.Tests, m)
		case strings.HasSuffix(base, ".rego"):
			in.Modules = append(in.Modules, m)
		case f.name == ".manifest" || f.name == signatureFile || f.name == "data.json" && bytes.Equal(bytes.TrimSpace(f.content), []byte("{}")):
		default:
			faults = append(faults, gatehouse.Fault{Pointer: gatehouse.Pointer(f.name), Reason: "only Rego modules are supported", Hint: "put data into a module"})
		}
	}
	return in, invalid(faults)
}

type bundleFile struct {
	name    string
	content []byte
}

// unpack reads the regular files of a tar.gz, within bounds.
func unpack(packed []byte) ([]bundleFile, error) {
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errors.New("it is not gzip")
	}
	archive := tar.NewReader(io.LimitReader(zipped, maxBundle+1))
	var files []bundleFile
	total := 0
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, errors.New("it is not tar, or larger than 16 MiB")
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		name := path.Clean(strings.TrimPrefix(strings.TrimPrefix(h.Name, "./"), "/"))
		if h.Typeflag != tar.TypeReg || strings.HasPrefix(name, "..") || len(name) > 255 {
			return nil, errors.New("it holds what is no plain file")
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, errors.New("a file is cut off, or the bundle larger than 16 MiB")
		}
		files = append(files, bundleFile{name, content})
		if total += len(content); total > maxBundle || len(files) > maxBundleFiles {
			return nil, fmt.Errorf("it has more than %d files or %d bytes", maxBundleFiles, maxBundle)
		}
	}
}
