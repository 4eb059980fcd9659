package gatehouse

// Attachment is a file that a tenant's document names: a key set, a
// certificate, a secret. Its content stands beside the document and not in it.
// It points into the tenant that it was taken from.
type Attachment struct {
	// Pointer is that of the field with the file's name.
	Pointer string
	// Name is what the document calls the file.
	Name string

	text   *string
	secret *Secret
}

// Attachments returns the files that t names, in document order. One file may
// be named more than once.
func (t *Tenant) Attachments() []Attachment {
	var all []Attachment
	add := func(name string, text *string, secret *Secret, at ...any) {
		if name != "" {
			all = append(all, Attachment{Pointer: Pointer(at...), Name: name, text: text, secret: secret})
		}
	}
	id := &t.Identity
	for i := range id.JWT {
		s := &id.JWT[i]
		add(s.JWKSFile, &s.JWKS, nil, "identity", "jwt", i, "jwks_file")
		add(s.SecretFile, nil, &s.Secret, "identity", "jwt", i, "secret_file")
	}
	if c := id.ClientCertificates; c != nil {
		add(c.CAFile, &c.CA, nil, "identity", "client_certificates", "ca_file")
	}
	if n := id.Introspection; n != nil {
		add(n.ClientSecretFile, nil, &n.ClientSecret, "identity", "introspection", "client_secret_file")
	}
	add(id.Forward.KeyFile, nil, &id.Forward.Key, "identity", "forward", "key_file")
	for i := range t.Backends {
		b := &t.Backends[i].TLS
		add(b.CAFile, &b.CA, nil, "backends", i, "tls", "ca_file")
		add(b.CertFile, &b.Cert, nil, "backends", i, "tls", "cert_file")
		add(b.KeyFile, nil, &b.Key, "backends", i, "tls", "key_file")
	}
	return all
}

// Secret reports whether the content must not be shown.
func (a Attachment) Secret() bool { return a.secret != nil }

// Content returns the file's content, nil while there is none.
func (a Attachment) Content() []byte {
	if a.secret != nil {
		return *a.secret
	}
	if *a.text == "" {
		return nil
	}
	return []byte(*a.text)
}

// Set gives the field its content.
func (a Attachment) Set(content []byte) {
	if a.secret != nil {
		*a.secret = content
		return
	}
	*a.text = string(content)
}
