package configs

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A Checker finds in each of many sets what validation of the whole finds, at
// the same places and in the same order, whatever sets it has seen before.
func TestCheckerAgreesWithTheWhole(t *testing.T) {
	tenant := rapid.SampledFrom([]string{
		"{id: a}", "{id: b, domain: b.test}", "{id: c, domain: b.test, plan: p}", "{id: d, aliases: [x.test, x.test]}",
		"{id: e, plan: none}", "{id: Bad, domain: '*.x.test', time_zone: Nowhere}", "{id: f, domain: f.test, plan: q, bad: 1}",
		"{id: g, identity: {api_keys: {keys: [{id: k, hash: sha256:" + strings.Repeat("ab", 32) + "}]}}}",
		"{id: h, identity: {api_keys: {keys: [{id: k, hash: sha256:" + strings.Repeat("ab", 32) + "}, {id: l}]}}}",
		"{id: i, backends: [{id: x}], routes: [{id: r, match: {path: a}, backend: y}]}", "{domain: UP.test}", "{id: j, routes: 1}",
	})
	plan := rapid.SampledFrom([]string{"{id: p}", "{id: q, limits: {rules: [{name: n}]}}", "{id: P}", "{}"})
	rapid.Check(t, func(t *rapid.T) {
		var pool []*File
		for i := range rapid.IntRange(1, 6).Draw(t, "files") {
			text := "plans: [" + strings.Join(rapid.SliceOfN(plan, 0, 2).Draw(t, "plans"), ", ") + "]\ntenants:"
			for _, line := range rapid.SliceOfN(tenant, 0, 4).Draw(t, "tenants") {
				text += "\n- " + line
			}
			pool = append(pool, Parse(fmt.Sprintf("%d.yaml", i), []byte(text)))
		}
		var k Checker
		for range 8 {
			files := rapid.SliceOfDistinct(rapid.SampledFrom(pool), func(f *File) string { return f.Path }).Draw(t, "set")
			got := k.Check(files...)
			whole := &Checked{Files: files, plans: got.plans, tenants: got.tenants}
			whole.validate()
			whole.Problems.Sort()
			if !reflect.DeepEqual(got.Problems, whole.Problems) && len(got.Problems)+len(whole.Problems) > 0 {
				t.Fatalf("got:\n%v\nwant:\n%v", got.Problems, whole.Problems)
			}
			if k.claims.settled() != settled(files) {
				t.Fatal("the claims are not those of the files")
			}
		}
	})
}

// settled asks claims that know of no earlier set.
func settled(files []*File) bool {
	var c claims
	for _, f := range files {
		c.add(&f.Document, 1)
	}
	return c.settled()
}
