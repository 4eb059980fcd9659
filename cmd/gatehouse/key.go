package main

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/spf13/cobra"
)

func keyNewCommand(s *streams) *cobra.Command {
	var id string
	var roles, scopes []string
	var expires time.Duration
	c := &cobra.Command{
		Use:   "new",
		Short: "Make an API key, offline",
		Long: `New makes an API key of 256 random bits. The secret goes to standard output
and is shown this once; the entry for the tenant's document, which holds only
its hash, goes to standard error.`,
		Example: "  gatehouse key new --id ci --role editor --expires 2160h",
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			key, err := gatehouse.NewAPIKey(rand.Reader)
			if err != nil {
				return fmt.Errorf("make key: %w", err)
			}
			entry, err := keyEntry(id, key, roles, scopes, expires)
			if err != nil {
				return &exit{exitUsage, err}
			}
			fmt.Fprintf(s.errors, "The key is shown once. Add to identity.api_keys.keys of the tenant:\n\n%s\n", entry)
			_, err = fmt.Fprintln(s.out, key.Reveal())
			return err
		},
	}
	c.Flags().StringVar(&id, "id", "key-1", "id of the key within its tenant")
	c.Flags().StringSliceVar(&roles, "role", nil, "role of the principal; may be repeated")
	c.Flags().StringSliceVar(&scopes, "scope", nil, "scope of the principal; may be repeated")
	c.Flags().DurationVar(&expires, "expires", 0, "time until the key expires, such as 720h; 0: never")
	return c
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/-]*$`)

// keyEntry is the key's line in a tenant document.
func keyEntry(id string, key gatehouse.APIKey, roles, scopes []string, expires time.Duration) (string, error) {
	hash, err := key.Hash().MarshalText()
	if err != nil {
		return "", err
	}
	for _, word := range append(append([]string{id}, roles...), scopes...) {
		if !plainWord.MatchString(word) {
			return "", fmt.Errorf("%q is not a plain word: use letters, digits and _ . : / -", word)
		}
	}
	entry := fmt.Sprintf("- {id: %s, hash: %q", id, hash)
	if len(roles) > 0 {
		entry += ", roles: [" + strings.Join(roles, ", ") + "]"
	}
	if len(scopes) > 0 {
		entry += ", scopes: [" + strings.Join(scopes, ", ") + "]"
	}
	switch {
	case expires < 0:
		return "", fmt.Errorf("expires %s is in the past", expires)
	case expires > 0:
		entry += fmt.Sprintf(", expires: %q", time.Now().Add(expires).UTC().Format(time.RFC3339))
	}
	return entry + "}", nil
}
