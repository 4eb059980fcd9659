package gatehouse_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Every setting of security and scaling is named as not enforced, until it is.
func TestNotEnforced(t *testing.T) {
	var tenant gatehouse.Tenant
	if err := json.Unmarshal([]byte(`{
		"security": {"encryption_level": "enterprise", "encryption_algorithm": "AES-256-GCM", "key_rotation_days": 90, "session_timeout": "30m",
			"mfa_required": true, "compliance_requirements": ["GDPR"], "audit_level": "detailed"},
		"limits": {"max_storage_gb": 10},
		"scaling": {"auto_scaling": true, "min_instances": 1, "max_instances": 100, "scaling_strategy": "predictive"}}`), &tenant); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/security/encryption_level", "/security/encryption_algorithm", "/security/key_rotation_days", "/security/session_timeout",
		"/security/mfa_required", "/security/compliance_requirements", "/security/audit_level", "/limits/max_storage_gb",
		"/scaling/auto_scaling", "/scaling/min_instances", "/scaling/max_instances", "/scaling/scaling_strategy",
	}
	if got := tenant.NotEnforced(); !slices.Equal(got, want) {
		t.Errorf("not enforced: %q", got)
	}
	tenant.ID = "a"
	faults := tenant.Validate()
	if len(faults.Errors()) > 0 || len(faults) != len(want) {
		t.Errorf("faults: %v", faults)
	}
	// A setting that is added to these types shows here until it has a row.
	var fields []string
	for _, v := range []any{tenant.Security, tenant.Scaling} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		for k := range m {
			fields = append(fields, k)
		}
	}
	if len(fields)+1 != len(want) {
		t.Errorf("fields: %q", fields)
	}
}

func TestTimeout(t *testing.T) {
	f := func(text string, want time.Duration, fault string) {
		t.Helper()
		var got gatehouse.Timeout
		err := got.UnmarshalText([]byte(text))
		switch {
		case fault == "" && (err != nil || time.Duration(got) != want):
			t.Errorf("%s: %v, %v", text, time.Duration(got), err)
		case fault != "" && (err == nil || err.Error() != fault):
			t.Errorf("%s: %v", text, err)
		}
	}
	f("1800", 30*time.Minute, "")
	f("30m", 30*time.Minute, "")
	f("0", 0, "0 seconds is outside 1 second to 366 days")
	f("99999999999", 0, "99999999999 seconds is outside 1 second to 366 days")
}
