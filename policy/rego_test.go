package policy

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-gateway/gatehouse/policies"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/tester"
)

// TestRego runs every test_ rule that package policies ships.
func TestRego(t *testing.T) {
	files, err := fs.Glob(policies.FS, "*.rego")
	if err != nil {
		t.Fatal(err)
	}
	modules, tested := map[string]*ast.Module{}, map[string]bool{}
	for _, file := range files {
		source, err := fs.ReadFile(policies.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		modules[file] = ast.MustParseModule(string(source))
		if formatted, err := format.Source(file, source); err != nil || string(formatted) != string(source) {
			t.Errorf("%s is not formatted (%v):\n%s", file, err, formatted)
		}
		if base, ok := strings.CutSuffix(path.Base(file), "_test.rego"); ok {
			tested[base+".rego"] = true
		}
	}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.rego") && !tested[file] {
			t.Errorf("%s has no tests", file)
		}
	}
	results, err := tester.NewRunner().SetCompiler(ast.NewCompiler().WithStrict(true)).
		SetModules(modules).RunTests(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for r := range results {
		ran++
		if !r.Pass() {
			t.Errorf("%s.%s: %v", r.Package, r.Name, r.Error)
		}
	}
	if ran == 0 {
		t.Error("no test ran")
	}
}

// TestBuiltins: each built-in of this OPA is one that policies may call, at a
// known cost, or one that was left out on purpose.
func TestBuiltins(t *testing.T) {
	leftOut := strings.Fields(`
		all any bits.lsh cast_array cast_boolean cast_null cast_object cast_set cast_string
		crypto.parse_private_keys crypto.x509.parse_and_verify_certificates
		crypto.x509.parse_and_verify_certificates_with_options crypto.x509.parse_certificate_request
		crypto.x509.parse_certificates crypto.x509.parse_keypair crypto.x509.parse_rsa_private_key
		graph.reachable graph.reachable_paths graphql.is_valid graphql.parse graphql.parse_and_verify
		graphql.parse_query graphql.parse_schema graphql.schema_is_valid http.send internal.print
		internal.test_case io.jwt.decode_verify io.jwt.encode_sign io.jwt.encode_sign_raw io.jwt.verify_eddsa
		io.jwt.verify_es256 io.jwt.verify_es384 io.jwt.verify_es512 io.jwt.verify_hs256 io.jwt.verify_hs384
		io.jwt.verify_hs512 io.jwt.verify_ps256 io.jwt.verify_ps384 io.jwt.verify_ps512 io.jwt.verify_rs256
		io.jwt.verify_rs384 io.jwt.verify_rs512 json.match_schema json.patch json.verify_schema
		net.cidr_expand net.cidr_overlap net.lookup_ip_addr opa.runtime providers.aws.sign_req rand.intn
		re_match regex.globs_match rego.metadata.chain rego.metadata.rule rego.parse_module set_diff
		strings.render_template trace uuid.rfc4122 yaml.is_valid yaml.marshal yaml.unmarshal`)
	known := slices.Concat(plainBuiltins, slices.Collect(maps.Keys(guardedBuiltins)), leftOut)
	slices.Sort(known)
	var have []string
	for _, b := range ast.Builtins {
		have = append(have, b.Name)
	}
	slices.Sort(have)
	if !slices.Equal(known, have) {
		for _, n := range have {
			if !slices.Contains(known, n) {
				t.Errorf("new built-in %s", n)
			}
		}
		for i, n := range known {
			if !slices.Contains(have, n) || i > 0 && known[i-1] == n {
				t.Errorf("%s is gone, or listed twice", n)
			}
		}
	}
	for _, b := range ast.Builtins {
		_, guarded := guardedBuiltins[b.Name]
		if b.Nondeterministic && b.Name != "time.now_ns" && (guarded || slices.Contains(plainBuiltins, b.Name)) {
			t.Errorf("%s is not deterministic", b.Name)
		}
	}
}
