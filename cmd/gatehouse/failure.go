package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/configs"
)

// exitCodeOf is the one table from errors to exit codes.
func exitCodeOf(err error) int {
	if e, ok := errors.AsType[*exit](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[configs.Problems](err); ok {
		return exitFindings
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	// cobra's own complaint has no type.
	if strings.HasPrefix(err.Error(), "required flag(s) ") {
		return exitUsage
	}
	if _, ok := errors.AsType[*gatehouse.Error](err); !ok {
		return exitError
	}
	switch gatehouse.CodeOf(err) {
	case gatehouse.CodeInvalid:
		return exitFindings
	case gatehouse.CodeNotFound:
		return exitNotFound
	case gatehouse.CodeConflict, gatehouse.CodeStale, gatehouse.CodeIdempotency, gatehouse.CodeNoPrecondition:
		return exitConflict
	case gatehouse.CodeBadToken, gatehouse.CodeForbidden, gatehouse.CodeTooManyFailures:
		return exitUnauthorised
	case gatehouse.CodeUnavailable:
		return exitUnavailable
	}
	return exitError
}

// hints say what to do about a code.
func hint(code gatehouse.Code) string {
	switch code {
	case gatehouse.CodeBadToken:
		return "give a token with --token-file, GATEHOUSE_TOKEN or gatehouse context add; the owner's is in bootstrap-token below the control plane's data folder"
	case gatehouse.CodeForbidden:
		return "ask an owner for a token with another role: gatehouse token create --role ROLE"
	case gatehouse.CodeUnavailable:
		return "see gatehouse doctor; choose another control plane with --server or gatehouse context use"
	case gatehouse.CodeStale:
		return "somebody else has changed it: read it again and repeat the change"
	case gatehouse.CodeNotBuilt:
		return "this version cannot do it yet"
	}
	return ""
}

// messageOf is what an error says to whoever called, without its code.
func messageOf(err error) string {
	e, ok := errors.AsType[*gatehouse.Error](err)
	if !ok {
		return err.Error()
	}
	text := e.Message
	if faults, ok := errors.AsType[gatehouse.Faults](e.Err); ok {
		return text + "\n" + faultLines(faults)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func faultLines(faults gatehouse.Faults) string {
	var b strings.Builder
	for _, f := range faults {
		kind := ""
		if f.Warning {
			kind = "warning: "
		}
		fmt.Fprintf(&b, "  %s: %s%s\n", first(f.Pointer, "/"), kind, f.Reason)
		if f.Hint != "" {
			fmt.Fprintf(&b, "    hint: %s\n", f.Hint)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// failure is an error as standard error has it: what, why, where, how to mend.
func failure(err error) string {
	if problems, ok := errors.AsType[configs.Problems](err); ok {
		return problems.Error() + "\n"
	}
	if _, ok := errors.AsType[*exit](err); !ok && errors.Is(err, context.Canceled) {
		return "gatehouse: interrupted\n"
	}
	text := "gatehouse: " + messageOf(err) + "\n"
	if _, ok := errors.AsType[*gatehouse.Error](err); ok {
		if h := hint(gatehouse.CodeOf(err)); h != "" {
			text += "  hint: " + h + "\n"
		}
	}
	return text
}

// structured returns json or yaml where the output is to be that. Flags may
// not have been read when the command failed.
func (r *remote) structured(args []string) string {
	form := first(r.out, r.s.getenv("GATEHOUSE_OUTPUT"))
	for i, a := range args {
		if (a == "-o" || a == "--output") && i+1 < len(args) {
			form = args[i+1]
		} else if v, ok := strings.CutPrefix(a, "--output="); ok {
			form = v
		} else if v, ok := strings.CutPrefix(a, "-o"); ok && v != "" {
			form = strings.TrimPrefix(v, "=")
		}
	}
	if slices.Contains([]string{"json", "yaml"}, form) {
		return form
	}
	return ""
}

// printFailure makes an error the one value on standard output.
func (r *remote) printFailure(form string, err error, code int) {
	v := struct {
		Error struct {
			Exit     int              `json:"exit"`
			Code     gatehouse.Code   `json:"code,omitempty"`
			Message  string           `json:"message"`
			Faults   gatehouse.Faults `json:"faults,omitempty"`
			Problems configs.Problems `json:"problems,omitempty"`
		} `json:"error"`
	}{}
	v.Error.Exit, v.Error.Message = code, err.Error()
	if e, ok := errors.AsType[*gatehouse.Error](err); ok {
		v.Error.Code, v.Error.Message = e.Code, e.Message
		v.Error.Faults, _ = errors.AsType[gatehouse.Faults](err)
	}
	if problems, ok := errors.AsType[configs.Problems](err); ok {
		v.Error.Message, v.Error.Problems = "there are faults", problems
	}
	raw, err := json.Marshal(v)
	if err == nil {
		r.out = form
		err = r.print(raw, view{})
	}
	if err != nil {
		fmt.Fprintf(r.s.errors, "gatehouse: print the error: %v\n", err)
	}
}
