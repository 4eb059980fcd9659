package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
)

// readConfig reads the process configuration; "" stands for the defaults. The
// error holds every problem with its place. What the values need on this
// machine is not looked at.
func readConfig(path string) (config, error) {
	cfg, text, err := parseConfig(path)
	if err != nil || text == nil {
		return cfg, err
	}
	if problems := text.Locate(cfg.validate()); len(problems) > 0 {
		return cfg, problems
	}
	return cfg, nil
}

// parseConfig reads the process configuration, and judges no value. The text
// finds the places of keys; it is nil where there is no file.
func parseConfig(path string) (config, *configs.Text, error) {
	cfg := defaultConfig()
	if path == "" {
		return cfg, nil, nil
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return cfg, nil, fmt.Errorf("read configuration: %w", err)
	}
	text, problems := configs.Decode(path, source, &cfg)
	if len(problems) == 0 {
		return cfg, text, nil
	}
	if tenantsList.Match(source) && problems[0].Hint == "" {
		problems[0].Hint = "tenant documents are given with --tenants"
	}
	return cfg, text, problems
}

// tenantsList is how a tenant document begins: a file may be taken for the
// other kind.
var tenantsList = regexp.MustCompile(`(?m)^(tenants|plans): *(\[|\n)`)

// read returns the configuration that the file and the flags make together,
// ready to run by: nothing is made before it is known to be right. The
// warnings are of what will not do what it seems to.
func (f *runFlags) read() (_ config, warnings configs.Problems, err error) {
	cfg, text, err := parseConfig(f.config)
	if err != nil {
		return cfg, nil, err
	}
	f.apply(&cfg)
	faults := cfg.validate()
	if len(faults) == 0 {
		faults = cfg.missing()
	}
	if len(faults) > 0 {
		problems := f.locate(text, faults)
		for _, p := range problems {
			if p.Line > 0 {
				return cfg, nil, problems
			}
		}
		return cfg, nil, &exit{exitUsage, problems} // of the command line alone
	}
	return cfg, f.locate(text, cfg.surprises()), nil
}

// locate gives faults their places: the flag that has set a value, else the
// file, or the key where there is none.
func (f *runFlags) locate(text *configs.Text, faults gatehouse.Faults) configs.Problems {
	given := map[string]string{}
	for _, o := range []struct{ flag, value, pointer string }{
		{"--tenants", f.tenants, "/tenants"},
		{"--data", f.data, "/data"},
		{"--listen", f.listen, "/proxy/listen"},
		{"--control", f.control, "/control/listen"},
		{"--roles", strings.Join(f.roles, ","), "/roles"},
	} {
		if o.value != "" {
			given[o.pointer] = o.flag
		}
	}
	flagOf := func(pointer string) string {
		if strings.HasPrefix(pointer, "/roles/") {
			pointer = "/roles"
		}
		return given[pointer]
	}
	var out configs.Problems
	for _, one := range faults {
		if also := flagOf(one.Also); also != "" || text == nil {
			one.Also = ""
		}
		place := flagOf(one.Pointer)
		if place == "" && text != nil {
			out = append(out, text.Locate(gatehouse.Faults{one})...)
			continue
		}
		if place == "" {
			place = keyOf(one.Pointer)
		}
		out = append(out, configs.Problem{Place: configs.Place{File: place}, Reason: one.Reason, Hint: one.Hint, Warning: one.Warning})
	}
	return out
}

// keyOf is a pointer as the reference names keys.
func keyOf(pointer string) string {
	return strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
}
