package gatehouse

import (
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Validate returns every fault of the document that can be found without
// compiling anything, in document order. Faults of one value do not hide
// those of another.
func (d *Document) Validate() Faults {
	v := &validation{plans: map[PlanID]bool{}, kept: &Validator{}}
	planAt := map[PlanID]string{}
	for i := range d.Plans {
		p, at := &d.Plans[i], Pointer("plans", i)
		v.id(at+"/id", "plan", string(p.ID))
		unique(v, planAt, p.ID, at+"/id", "plan")
		v.plans[p.ID] = true
		v.labels(at, p.BadLabels())
		v.limits(at+"/limits", &p.Limits, planScope)
	}
	tenantAt, hostAt, hashAt := map[TenantID]string{}, map[string]string{}, map[KeyHash]hashPlace{}
	for i := range d.Tenants {
		t, at := &d.Tenants[i], Pointer("tenants", i)
		unique(v, tenantAt, t.ID, at+"/id", "tenant")
		v.tenant(at, t)
		v.hosts(at, t, hostAt)
		v.hashes(at, t, hashAt)
	}
	return v.faults
}

// Validate returns the faults of one tenant on its own: not whether its plan
// exists, nor whether another tenant has its domain or keys. Pointers begin
// at the tenant.
func (t *Tenant) Validate() Faults { return new(Validator).Tenant(t) }

// Validator validates many tenants one by one, and remembers what they have in
// common. The zero value is ready. It is safe for concurrent use.
type Validator struct {
	zones sync.Map // names of time zones that exist
}

// Tenant is Validate of a tenant.
func (k *Validator) Tenant(t *Tenant) Faults {
	v := &validation{kept: k}
	v.tenant("", t)
	v.hosts("", t, map[string]string{})
	v.hashes("", t, map[KeyHash]hashPlace{})
	return v.faults
}

// Plan returns the faults of one plan on its own. Pointers begin at the plan.
func (k *Validator) Plan(p *Plan) Faults {
	v := &validation{kept: k}
	v.id("/id", "plan", string(p.ID))
	v.labels("", p.BadLabels())
	v.limits("/limits", &p.Limits, planScope)
	return v.faults
}

// isZone reports whether a time zone exists, which is a file to read.
func (k *Validator) isZone(name string) bool {
	if _, ok := k.zones.Load(name); ok || name == "" {
		return true
	}
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		return false
	}
	k.zones.Store(name, true)
	return true
}

// validation collects faults. plans is nil when only one tenant is seen.
type validation struct {
	faults Faults
	plans  map[PlanID]bool
	kept   *Validator
}

func (v *validation) fault(at, reason, hint string) {
	v.faults = append(v.faults, Fault{Pointer: at, Reason: reason, Hint: hint})
}

var idForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (v *validation) id(at, kind, id string) {
	if !idForm.MatchString(id) {
		reason := fmt.Sprintf("%s id %q is not a lower-case DNS label", kind, clip(id))
		if id == "" {
			reason = kind + " id is missing"
		}
		v.fault(at, reason, "use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -")
	}
}

// unique faults an id that seen has already, and notes where it was first.
func unique[K ~string](v *validation, seen map[K]string, id K, at, kind string) {
	if first, dup := note(seen, id, at); dup && id != "" {
		v.faults = append(v.faults, Fault{
			Pointer: at, Also: first,
			Reason: fmt.Sprintf("%s %q is defined twice", kind, clip(string(id))),
		})
	}
}

func note[K comparable](seen map[K]string, id K, at string) (first string, dup bool) {
	if first, dup = seen[id]; !dup {
		seen[id] = at
	}
	return first, dup
}

func (v *validation) tenant(at string, t *Tenant) {
	v.id(at+"/id", "tenant", string(t.ID))
	v.labels(at, t.BadLabels())
	oneOf(v, at+"/status", "status", t.Status, Active, Suspended)
	if v.plans != nil && t.Plan != "" && !v.plans[t.Plan] {
		v.fault(at+"/plan", fmt.Sprintf("plan %q does not exist", clip(string(t.Plan))), suggest(string(t.Plan), maps.Keys(v.plans)))
	}
	if !v.kept.isZone(t.TimeZone) {
		v.fault(at+"/time_zone", fmt.Sprintf("time zone %q does not exist", clip(t.TimeZone)), "use a name of the IANA database such as Europe/Rome")
	}
	for _, name := range slices.Sorted(maps.Keys(t.Features)) {
		if !featureForm.MatchString(name) {
			v.fault(at+"/features", fmt.Sprintf("feature name %q is not allowed", clip(name)), "use a-z, 0-9, _ and -, at most 64")
		}
	}
	oneOf(v, at+"/tls/min_version", "min_version", t.TLS.MinVersion, TLS12, TLS13)
	v.identity(at+"/identity", &t.Identity)
	backends := map[BackendID]bool{}
	backendAt := map[BackendID]string{}
	for i := range t.Backends {
		b, at := &t.Backends[i], at+Pointer("backends", i)
		v.id(at+"/id", "backend", string(b.ID))
		unique(v, backendAt, b.ID, at+"/id", "backend")
		backends[b.ID] = true
		v.backend(at, b)
	}
	routeAt, matchAt := map[RouteID]string{}, map[string]string{}
	for i := range t.Routes {
		r, at := &t.Routes[i], at+Pointer("routes", i)
		v.id(at+"/id", "route", string(r.ID))
		unique(v, routeAt, r.ID, at+"/id", "route")
		v.route(at, r, backends, matchAt)
		v.credentials(at, r, &t.Identity)
	}
	v.limits(at+"/limits", &t.Limits, tenantScope)
	v.settings(at, t)
	v.modules(at+"/policy/modules", t.Policy.Modules)
	v.modules(at+"/policy/shadow", t.Policy.Shadow)
	v.decisions(at+"/policy", &t.Policy)
}

func (v *validation) modules(at string, modules []Module) {
	moduleAt := map[string]string{}
	for i := range modules {
		m, at := &modules[i], at+Pointer(i)
		unique(v, moduleAt, m.Name, at+"/name", "module")
		if m.Name == "" {
			v.fault(at+"/name", "module name is missing", "a file name ending in .rego")
		} else if !moduleForm.MatchString(m.Name) {
			v.fault(at+"/name", fmt.Sprintf("module name %q is not a file name ending in .rego", clip(m.Name)), "use letters, digits, _ and -, then .rego")
		}
		if strings.TrimSpace(m.Source) == "" {
			v.fault(at+"/source", "module source is missing", "")
		}
	}
}

var (
	featureForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	moduleForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.rego$`)
)

func (v *validation) hosts(at string, t *Tenant, seen map[string]string) {
	check := func(at, host string, wildcard bool) {
		name, star := strings.CutPrefix(host, "*.")
		if star && !wildcard {
			v.fault(at, "the primary domain may not be a wildcard", "move it to aliases")
			return
		}
		if reason := HostFault(name); reason != "" {
			v.fault(at, fmt.Sprintf("host %q %s", clip(host), reason), "")
			return
		}
		if first, dup := note(seen, host, at); dup {
			v.faults = append(v.faults, Fault{
				Pointer: at, Also: first,
				Reason: fmt.Sprintf("host %q is claimed twice", host), Hint: "a host belongs to one tenant",
			})
		}
	}
	if t.Domain != "" {
		check(at+"/domain", t.Domain, false)
	}
	for i, a := range t.Aliases {
		check(at+Pointer("aliases", i), a, true)
	}
}

// HostFault says what keeps name from being a canonical host name or IP
// address: lower case, ASCII, without port or trailing dot.
func HostFault(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > 253:
		return "is longer than 253 bytes"
	case strings.ToLower(name) != name:
		return "has upper-case letters"
	case strings.Contains(name, ":"):
		return "has a port or is not a host name"
	case strings.HasSuffix(name, "."):
		return "ends with a dot"
	case strings.Contains(name, "*"):
		return "has * elsewhere than in front, as *."
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			return "is not in ASCII: internationalised names are written as xn--…"
		}
	}
	for label := range strings.SplitSeq(name, ".") {
		if !hostLabel.MatchString(label) {
			return fmt.Sprintf("has the malformed label %q: 1 to 63 of a-z, 0-9, _ and -, not beginning or ending with -", clip(label))
		}
	}
	return ""
}

var hostLabel = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

func oneOf[T ~string](v *validation, at, what string, got T, want ...T) {
	if got == "" || slices.Contains(want, got) {
		return
	}
	names := make([]string, len(want))
	for i, w := range want {
		names[i] = string(w)
	}
	v.fault(at, fmt.Sprintf("%s %q is unknown", what, clip(string(got))), "use "+list(names))
}

func list(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " or " + names[n-1]
	}
	return strings.Join(names, "")
}

// clip keeps a rejected value from flooding a message.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

func suggest[K ~string](got string, known iter.Seq[K]) string {
	names := []string{}
	for k := range known {
		names = append(names, string(k))
	}
	slices.Sort(names)
	if near := Nearest(got, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(names) == 0 {
		return "none is defined"
	}
	if len(names) > 5 {
		return ""
	}
	return "there is " + strings.Join(names, ", ")
}

// Nearest returns the candidate closest to s, or "" when none is close: at
// most a third of the letters differ.
func Nearest(s string, candidates []string) string {
	best, bestAt := "", max(1, len(s)/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d < bestAt {
			best, bestAt = c, d
		}
	}
	return best
}

// distance is the optimal string alignment distance: Levenshtein's with the
// swap of two neighbours as one edit.
func distance(a, b string) int {
	var before []int
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			same := 1
			if a[i] == b[j] {
				same = 0
			}
			row[j+1] = min(row[j]+1, prev[j+1]+1, prev[j]+same)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, prev = prev, row
	}
	return prev[len(b)]
}
