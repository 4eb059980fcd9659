package edge

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	certificateSuffix = ".crt"
	keySuffix         = ".key"
	// fallbackName is the pair for names that no other pair serves.
	fallbackName = "default"
	// pairLimit bounds a file, in bytes.
	pairLimit = 1 << 20
)

// CertificateStatus tells when a certificate ends.
type CertificateStatus struct {
	// Name is that of its files, without suffix.
	Name string
	// NotAfter is the last instant of the leaf's validity.
	NotAfter time.Time
}

// Expiry lists the certificates in use, by name.
func (t *TLS) Expiry() []CertificateStatus {
	s := t.shelf.Load()
	list := make([]CertificateStatus, 0, len(s.pairs))
	for _, p := range s.pairs {
		list = append(list, CertificateStatus{p.name, p.certificate.Leaf.NotAfter})
	}
	slices.SortFunc(list, func(a, b CertificateStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// pair is a certificate with its key. It does not change.
type pair struct {
	name        string
	sum         [sha256.Size]byte // of both files
	certificate *tls.Certificate  // with its Leaf
	rank        int               // by algorithm; the least is taken first
}

// current reports whether the certificate is valid at the given time.
func (p *pair) current(at time.Time) bool {
	return !at.Before(p.certificate.Leaf.NotBefore) && !at.After(p.certificate.Leaf.NotAfter)
}

// shelf finds certificates by name. It does not change.
type shelf struct {
	pairs    []*pair
	exact    map[string][]*pair // by DNS name
	wild     map[string][]*pair // by the name without its first label
	fallback []*pair
}

// arrange returns a shelf of pairs. Of those that serve one name ECDSA goes
// first, as it is cheapest, and what lasts longer before what ends sooner.
func arrange(pairs map[string]*pair) *shelf {
	s := &shelf{exact: map[string][]*pair{}, wild: map[string][]*pair{}}
	s.pairs = slices.SortedFunc(maps.Values(pairs), func(a, b *pair) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank),
			b.certificate.Leaf.NotAfter.Compare(a.certificate.Leaf.NotAfter), strings.Compare(a.name, b.name))
	})
	for _, p := range s.pairs {
		for _, name := range p.certificate.Leaf.DNSNames {
			name = strings.ToLower(name)
			if rest, ok := strings.CutPrefix(name, "*."); ok {
				s.wild[rest] = append(s.wild[rest], p)
			} else {
				s.exact[name] = append(s.exact[name], p)
			}
		}
		if p.name == fallbackName {
			s.fallback = append(s.fallback, p)
		}
	}
	return s
}

// candidates are the pairs for a name in lower case, empty when none was
// asked for: those of the name itself, then those of its wildcard.
func (s *shelf) candidates(name string) (exact, wild []*pair) {
	if name != "" {
		exact = s.exact[name]
		if _, rest, ok := strings.Cut(name, "."); ok {
			wild = s.wild[rest]
		}
	}
	if len(exact) == 0 && len(wild) == 0 {
		exact = s.fallback
	}
	return exact, wild
}

// has reports whether there is a certificate for a name.
func (s *shelf) has(name string) bool {
	exact, wild := s.candidates(name)
	return len(exact)+len(wild) > 0
}

// find returns the certificate for a name: one that is valid now and that the
// client can use, else one that it can use, else any, nil when there is none.
func (s *shelf) find(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	exact, wild := s.candidates(name)
	switch {
	case len(exact)+len(wild) == 0:
		return nil
	case len(exact) == 1 && len(wild) == 0:
		return exact[0].certificate
	case len(exact) == 0 && len(wild) == 1:
		return wild[0].certificate
	}
	now := time.Now()
	for _, expired := range [...]bool{false, true} {
		for _, group := range [...][]*pair{exact, wild} {
			for _, p := range group {
				if p.current(now) != expired && hello.SupportsCertificate(p.certificate) == nil {
					return p.certificate
				}
			}
		}
	}
	return append(exact[:len(exact):len(exact)], wild...)[0].certificate
}

// readPairs reads the pairs of a folder. One that has not changed since old
// is not parsed again. The errors are those of single pairs, which are not in
// the result; err is one of the folder.
func readPairs(folder string, old map[string]*pair) (pairs map[string]*pair, faults map[string]error, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, nil, fmt.Errorf("read certificates: %w", err)
	}
	pairs, faults = map[string]*pair{}, map[string]error{}
	for _, e := range entries {
		name, suffix := e.Name(), filepath.Ext(e.Name())
		name = strings.TrimSuffix(name, suffix)
		if !ofPair(e.Name()) || name == "" || name[0] == '.' {
			continue
		}
		if pairs[name] != nil || faults[name] != nil {
			continue
		}
		if p, err := readPair(folder, name, old[name]); err != nil {
			faults[name] = err
		} else {
			pairs[name] = p
		}
	}
	return pairs, faults, nil
}

func readPair(folder, name string, old *pair) (*pair, error) {
	path := filepath.Join(folder, name)
	chain, err := readBounded(path + certificateSuffix)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	key, err := readBounded(path + keySuffix)
	if err != nil {
		return nil, fmt.Errorf("read key of %s: %w", path+certificateSuffix, err)
	}
	sum := sha256.Sum256(bytes.Join([][]byte{chain, key}, []byte{0}))
	if old != nil && old.sum == sum {
		return old, nil
	}
	// Its errors name types of PEM blocks and never their content.
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with %s: %w", path+certificateSuffix, name+keySuffix, err)
	}
	if len(c.Leaf.DNSNames) == 0 && name != fallbackName {
		return nil, fmt.Errorf("certificate %s names no DNS name", path+certificateSuffix)
	}
	return &pair{name: name, sum: sum, certificate: &c, rank: rank(c.Leaf)}, nil
}

func rank(leaf *x509.Certificate) int {
	switch leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return 0
	case ed25519.PublicKey:
		return 1
	}
	return 2
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, pairLimit+1))
	if err != nil {
		return nil, err
	}
	if len(b) > pairLimit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, pairLimit)
	}
	return b, nil
}

// Reload reads the certificates again and puts them in use. The error names
// every pair with a fault: what such a pair last held stays in use, and all
// other changes apply. A folder that cannot be read or has no pair at all
// changes nothing.
func (t *TLS) Reload() error {
	_, err := t.reload()
	return err
}

// reload reports also whether anything has changed.
func (t *TLS) reload() (changed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pairs, faults, err := readPairs(t.folder, t.pairs)
	if err != nil {
		return false, err
	}
	if len(pairs)+len(faults) == 0 {
		return false, fmt.Errorf("folder %s has no pair of NAME%s and NAME%s", t.folder, certificateSuffix, keySuffix)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		errs = append(errs, faults[name])
		if old := t.pairs[name]; old != nil {
			pairs[name] = old
		}
	}
	if !maps.Equal(pairs, t.pairs) {
		now := time.Now()
		for _, name := range slices.Sorted(maps.Keys(pairs)) {
			if p := pairs[name]; p != t.pairs[name] && !p.current(now) {
				t.log.Warn("certificate is not valid now", "path", filepath.Join(t.folder, name+certificateSuffix),
					"not_before", p.certificate.Leaf.NotBefore, "not_after", p.certificate.Leaf.NotAfter)
			}
		}
		t.pairs, changed = pairs, true
		t.shelf.Store(arrange(pairs))
	}
	return changed, errors.Join(errs...)
}
