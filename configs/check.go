package configs

import (
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// Checked are files that were validated together.
type Checked struct {
	Files []*File
	// Problems of the files and of their joint validation, by file and line.
	Problems Problems
	// The plans, and tenants, of Files[i] are those of the joint document from
	// plans[i], and tenants[i], on.
	plans, tenants []int
}

// Checker validates sets of files that follow one another. What it has found
// of a file holds while the file is the same, so that a set costs what differs
// from the last one: its files are validated, and of the others it looks only
// at their number. A set in which ids, hosts or keys clash, or in which a plan
// is missing, is validated as a whole, to say where.
//
// The zero value is ready. It belongs to one goroutine.
type Checker struct {
	validator gatehouse.Validator
	set       int              // its number, counted up
	found     map[*File]*found // of the files of the last set
	claims    claims           // of these files
}

// found is what a file has by itself, and the last set that it was in.
type found struct {
	problems Problems
	set      int
}

// Check validates files as one document.
func (k *Checker) Check(files ...*File) *Checked {
	c := &Checked{Files: files, plans: make([]int, len(files)), tenants: make([]int, len(files))}
	for i := 1; i < len(files); i++ {
		before := &files[i-1].Document
		c.plans[i], c.tenants[i] = c.plans[i-1]+len(before.Plans), c.tenants[i-1]+len(before.Tenants)
	}
	if k.take(files) && k.claims.settled() {
		for _, f := range files {
			c.Problems = append(c.Problems, k.found[f].problems...)
		}
	} else {
		c.validate()
	}
	c.Problems.Sort()
	return c
}

// take makes files those that are known. It reports false where one is there
// twice.
func (k *Checker) take(files []*File) (apart bool) {
	if k.found == nil {
		k.found = make(map[*File]*found, len(files))
	}
	k.set++
	apart = true
	for _, f := range files {
		known := k.found[f]
		if known == nil {
			known = &found{problems: f.problems(&k.validator)}
			k.found[f] = known
			k.claims.add(&f.Document, 1)
		}
		apart = apart && known.set != k.set
		known.set = k.set
	}
	if len(k.found) == len(files) && apart {
		return true
	}
	for f, known := range k.found {
		if known.set != k.set {
			delete(k.found, f)
			k.claims.add(&f.Document, -1)
		}
	}
	return apart
}

// problems returns those of the file's form and those that validation finds
// when it looks at each plan and tenant alone.
func (f *File) problems(v *gatehouse.Validator) Problems {
	var faults gatehouse.Faults
	for i := range f.Document.Plans {
		faults = append(faults, v.Plan(&f.Document.Plans[i]).Under(gatehouse.Pointer("plans", i))...)
	}
	for i := range f.Document.Tenants {
		faults = append(faults, v.Tenant(&f.Document.Tenants[i]).Under(gatehouse.Pointer("tenants", i))...)
	}
	all := slices.Clone(f.Problems)
	broken := all.places()
	for _, fault := range faults {
		if p := f.text.Locate(gatehouse.Faults{fault})[0]; !broken[p.Place] && !f.around(fault.Pointer) {
			all = append(all, p)
		}
	}
	return all
}

// validate finds the problems of all files as one document.
func (c *Checked) validate() {
	for _, f := range c.Files {
		c.Problems = append(c.Problems, f.Problems...)
	}
	broken := c.Problems.places()
	doc := c.document()
	for _, fault := range doc.Validate() {
		file, at := c.find(fault.Pointer)
		// A value that could not be read is absent, which is not a second
		// fault, neither of itself nor of the value around it.
		if p := c.Locate(gatehouse.Faults{fault})[0]; !broken[p.Place] && (file == nil || !file.around(at)) {
			c.Problems = append(c.Problems, p)
		}
	}
}

// document is the joint one. Its plans and tenants are those of the files.
func (c *Checked) document() (d gatehouse.Document) {
	for _, f := range c.Files {
		d.Plans = append(d.Plans, f.Document.Plans...)
		d.Tenants = append(d.Tenants, f.Document.Tenants...)
	}
	return d
}

// around reports whether a value below pointer could not be read.
func (f *File) around(pointer string) bool {
	return slices.ContainsFunc(f.broken, func(b string) bool { return strings.HasPrefix(b, pointer+"/") })
}

// Locate gives faults of the joint document their places.
func (c *Checked) Locate(faults gatehouse.Faults) Problems {
	var ps Problems
	for _, f := range faults {
		file, pointer := c.find(f.Pointer)
		if file == nil {
			ps = append(ps, Problem{Reason: f.Reason, Hint: f.Hint, Warning: f.Warning})
			continue
		}
		also := f.Also
		f.Pointer, f.Also = pointer, ""
		p := file.text.Locate(gatehouse.Faults{f})[0]
		if other, pointer := c.find(also); other != nil {
			place := other.text.place(gatehouse.Fault{Pointer: pointer})
			p.Also = &place
		}
		ps = append(ps, p)
	}
	return ps
}

// find turns a pointer of the joint document into one of its file's.
func (c *Checked) find(pointer string) (*File, string) {
	list, rest, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	digits, tail, below := strings.Cut(rest, "/")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 {
		return nil, ""
	}
	first, size := c.plans, func(d *gatehouse.Document) int { return len(d.Plans) }
	switch list {
	case "plans":
	case "tenants":
		first, size = c.tenants, func(d *gatehouse.Document) int { return len(d.Tenants) }
	default:
		return nil, ""
	}
	i := sort.Search(len(first), func(i int) bool { return first[i] > n }) - 1 // the last one is never empty
	if i < 0 || n-first[i] >= size(&c.Files[i].Document) {
		return nil, ""
	}
	at := gatehouse.Pointer(list, n-first[i])
	if below {
		at += "/" + tail
	}
	return c.Files[i], at
}
