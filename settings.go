package gatehouse

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Security are settings of protection beyond identity and policy. Those that
// nothing enforces yet are kept and named by NotEnforced.
type Security struct {
	// EncryptionLevel is standard or enterprise.
	EncryptionLevel string `json:"encryption_level,omitempty"`
	// EncryptionAlgorithm is that of the tenant's stored secrets, AES-256-GCM
	// or ChaCha20-Poly1305.
	EncryptionAlgorithm string `json:"encryption_algorithm,omitempty"`
	// KeyRotationDays is the time between changes of the tenant's encryption
	// keys, 1 to 3650.
	KeyRotationDays int `json:"key_rotation_days,omitempty"`
	// SessionTimeout ends sessions of the console: a duration, or seconds.
	SessionTimeout Timeout `json:"session_timeout,omitzero"`
	// MFARequired asks administrators for a second factor.
	MFARequired bool `json:"mfa_required,omitempty"`
	// ComplianceRequirements are the rules that the tenant is held to, such as
	// GDPR, HIPAA, SOX, PCI-DSS, SOC2 or ISO27001.
	ComplianceRequirements []string `json:"compliance_requirements,omitempty"`
	// AuditLevel is basic, standard or detailed.
	AuditLevel string `json:"audit_level,omitempty"`
}

// Scaling says how many instances may serve a tenant.
type Scaling struct {
	// AutoScaling adds and removes instances by load.
	AutoScaling bool `json:"auto_scaling,omitempty"`
	// MinInstances and MaxInstances bound them, 1 to 100000.
	MinInstances int `json:"min_instances,omitempty"`
	MaxInstances int `json:"max_instances,omitempty"`
	// Strategy is reactive, scheduled or predictive.
	Strategy string `json:"scaling_strategy,omitempty"`
}

// Timeout is a duration that may also be written as a number of seconds.
type Timeout time.Duration

// UnmarshalText reads 30m or 1800.
func (t *Timeout) UnmarshalText(b []byte) error {
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		if n < 1 || n > 366*24*3600 {
			return fmt.Errorf("%d seconds is outside 1 second to 366 days", n)
		}
		*t = Timeout(time.Duration(n) * time.Second)
		return nil
	}
	var d Duration
	if err := d.UnmarshalText(b); err != nil {
		return err
	}
	*t = Timeout(d)
	return nil
}

// MarshalText writes a duration.
func (t Timeout) MarshalText() ([]byte, error) { return Duration(t).MarshalText() }

// NotEnforced returns the pointers of the settings that are kept but that
// nothing acts on yet, in document order.
func (t *Tenant) NotEnforced() []string {
	var at []string
	add := func(given bool, pointer string) {
		if given {
			at = append(at, pointer)
		}
	}
	s := &t.Security
	add(s.EncryptionLevel != "", "/security/encryption_level")
	add(s.EncryptionAlgorithm != "", "/security/encryption_algorithm")
	add(s.KeyRotationDays != 0, "/security/key_rotation_days")
	add(s.SessionTimeout != 0, "/security/session_timeout")
	add(s.MFARequired, "/security/mfa_required")
	add(len(s.ComplianceRequirements) > 0, "/security/compliance_requirements")
	add(s.AuditLevel != "", "/security/audit_level")
	add(t.Limits.MaxStorageGB != 0, "/limits/max_storage_gb")
	add(t.Scaling.AutoScaling, "/scaling/auto_scaling")
	add(t.Scaling.MinInstances != 0, "/scaling/min_instances")
	add(t.Scaling.MaxInstances != 0, "/scaling/max_instances")
	add(t.Scaling.Strategy != "", "/scaling/scaling_strategy")
	return at
}

// maxRequirement bounds the name of a rule that a tenant is held to, in bytes.
const maxRequirement = 64

func (v *validation) settings(at string, t *Tenant) {
	for _, kept := range t.NotEnforced() {
		v.faults = append(v.faults, Fault{
			Pointer: at + kept, Warning: true,
			Reason: "the setting is kept, but nothing enforces it yet", Hint: "do not rely on it",
		})
	}
	s, sec := &t.Scaling, &t.Security
	oneOf(v, at+"/security/encryption_level", "encryption_level", sec.EncryptionLevel, "standard", "enterprise")
	oneOf(v, at+"/security/encryption_algorithm", "encryption_algorithm", sec.EncryptionAlgorithm, "AES-256-GCM", "ChaCha20-Poly1305")
	oneOf(v, at+"/security/audit_level", "audit_level", sec.AuditLevel, "basic", "standard", "detailed")
	v.span(at+"/security/key_rotation_days", "key_rotation_days", int64(sec.KeyRotationDays), 3650)
	for i, c := range sec.ComplianceRequirements {
		if c == "" || len(c) > maxRequirement {
			v.fault(at+Pointer("security", "compliance_requirements", i), "a requirement has 1 to 64 characters", "")
		} else if slices.Contains(sec.ComplianceRequirements[:i], c) {
			v.fault(at+Pointer("security", "compliance_requirements", i), fmt.Sprintf("requirement %q is given twice", clip(c)), "")
		}
	}
	oneOf(v, at+"/scaling/scaling_strategy", "scaling_strategy", s.Strategy, "reactive", "scheduled", "predictive")
	v.span(at+"/scaling/min_instances", "min_instances", int64(s.MinInstances), 100_000)
	v.span(at+"/scaling/max_instances", "max_instances", int64(s.MaxInstances), 100_000)
	if s.MaxInstances != 0 && s.MinInstances > s.MaxInstances {
		v.fault(at+"/scaling/min_instances", fmt.Sprintf("min_instances %d is above max_instances %d", s.MinInstances, s.MaxInstances), "")
	}
}
