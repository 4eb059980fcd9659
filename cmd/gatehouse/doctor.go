package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
	"github.com/spf13/cobra"
)

// finding is one thing that doctor looked at.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning or fault
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

func doctorCommand(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong; exit code 2 when something is",
		Long: `Doctor looks at the settings of the command line, the control plane and its
journal's head, and the data planes. It changes nothing.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{r: r}
			d.examine(cmd.Context())
			items := make([]json.RawMessage, len(d.found))
			faults := 0
			for i, f := range d.found {
				raw, err := json.Marshal(f)
				if err != nil {
					return err
				}
				items[i] = raw
				if f.State == "fault" {
					faults++
				}
			}
			if err := r.printItems(items, columns("CHECK:/check STATE:/state DETAIL:/detail HINT:/hint")); err != nil {
				return err
			}
			if d.away {
				return &exit{exitUnavailable, fmt.Errorf("%s", count(faults, "fault"))}
			}
			if faults > 0 {
				return &exit{exitFindings, fmt.Errorf("%s", count(faults, "fault"))}
			}
			return nil
		},
	}
}

type doctor struct {
	r     *remote
	found []finding
	away  bool // the control plane does not answer
}

func (d *doctor) note(check, state, detail, hint string) {
	d.found = append(d.found, finding{check, state, detail, hint})
}

func (d *doctor) examine(ctx context.Context) {
	d.files()
	a, err := d.r.access()
	if err != nil {
		d.note("settings", "fault", messageOf(err), "")
		return
	}
	d.note("settings", "ok", "control plane "+a.Server, "")
	if a.Token == "" {
		d.note("token", "fault", "there is none", hint(gatehouse.CodeBadToken))
	}
	if !d.answers(ctx, a) {
		return
	}
	d.token(ctx, a)
	d.gateways(ctx)
	d.sellers(ctx)
}

// files looks at what must be private.
func (d *doctor) files() {
	path, err := contextsPath(d.r.s.getenv)
	if err == nil {
		d.private("contexts", path)
	}
	data := defaultConfig().Data
	for _, name := range []string{bootstrapFile, "secrets.key", "gatehouse.db"} {
		d.private("data folder", filepath.Join(data, name))
	}
}

func (d *doctor) private(check, name string) {
	info, err := os.Stat(name)
	if err != nil {
		return // there is nothing to see
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		d.note(check, "fault", fmt.Sprintf("%s can be read by others: mode %o", name, mode), "chmod 600 "+name)
		return
	}
	d.note(check, "ok", name+" is private", "")
}

// answers asks the process how it is.
func (d *doctor) answers(ctx context.Context, a access) bool {
	transport, err := newTransport(a.CAFile)
	if err != nil {
		d.note("control plane", "fault", err.Error(), "")
		return false
	}
	transport.Timeout = 10 * time.Second
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(a.Server, "/")+"/readyz?verbose", nil)
	if err != nil {
		d.note("control plane", "fault", err.Error(), "")
		return false
	}
	sent := time.Now()
	answer, err := transport.Do(request)
	if err != nil {
		d.away = true
		d.note("control plane", "fault", "it does not answer: "+err.Error(), "start it with gatehouse run, or choose another with --server or gatehouse context use")
		return false
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10)) // what came is enough
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if reason, ok := strings.CutPrefix(line, "not ready: "); ok {
			d.note("ready", "fault", reason, "")
		} else if name, ok := strings.CutPrefix(line, "ok: "); ok {
			d.note("ready", "ok", name, "")
		}
	}
	if theirs, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		if off := theirs.Sub(sent).Abs(); off > 5*time.Second {
			d.note("clock", "warning", fmt.Sprintf("the control plane's clock is %s off this one's", off.Round(time.Second)), "tokens and limits go by the clock: run NTP on both")
		} else {
			d.note("clock", "ok", "both clocks agree", "")
		}
	}
	return true
}

func (d *doctor) token(ctx context.Context, a access) {
	if a.Token == "" {
		return
	}
	answer, err := d.r.do(ctx, client.Call{Operation: client.GetCaller})
	if err != nil {
		d.note("token", "fault", messageOf(err), hint(gatehouse.CodeOf(err)))
		return
	}
	var c control.Caller
	if err := answer.Into(&c); err != nil {
		d.note("token", "fault", messageOf(err), "")
		return
	}
	state, advice := "ok", ""
	if c.ID == bootstrapID {
		state, advice = "warning", "make a token for each person and program, and revoke this one: gatehouse token create --role owner"
	}
	d.note("token", state, fmt.Sprintf("%s, role %s", c.ID, c.Role), advice)
}

func (d *doctor) gateways(ctx context.Context) {
	answer, err := d.r.do(ctx, client.Call{Operation: client.ListGateways})
	if err != nil {
		if gatehouse.CodeOf(err) != gatehouse.CodeForbidden {
			d.note("data planes", "fault", messageOf(err), "")
		}
		return
	}
	var page struct{ Items []control.GatewayStatus }
	if err := answer.Into(&page); err != nil {
		d.note("data planes", "fault", messageOf(err), "")
		return
	}
	if len(page.Items) == 0 {
		d.note("data planes", "warning", "none follows", "start one with gatehouse run --roles proxy")
	}
	for _, g := range page.Items {
		switch {
		case !g.Connected:
			d.note("data plane "+g.ID, "fault", "it does not follow since "+g.Since.Format(time.RFC3339), "look at its log; it serves what it had last")
		case len(g.Refused) > 0:
			d.note("data plane "+g.ID, "fault", fmt.Sprintf("it refuses %s, the first %s: %s", count(len(g.Refused)+g.RefusedMore, "tenant"), g.Refused[0].Tenant, g.Refused[0].Faults.Error()), "see gatehouse gateway list -o json")
		case g.Acknowledged < g.Sent:
			d.note("data plane "+g.ID, "warning", fmt.Sprintf("it has answered for revision %d of %d", g.Acknowledged, g.Sent), "")
		default:
			d.note("data plane "+g.ID, "ok", fmt.Sprintf("at revision %d", g.Acknowledged), "")
		}
	}
}

// sellers looks whether invoices have the name of who sells, without which
// they are none by law. A control plane without billing, and a token that may
// not see it, have nothing to look at.
func (d *doctor) sellers(ctx context.Context) {
	var newest struct {
		Items []struct {
			Number   string   `json:"number"`
			Warnings []string `json:"warnings"`
		} `json:"items"`
	}
	var sellers struct {
		Items []struct {
			Party struct {
				Name string `json:"name"`
			} `json:"party"`
		} `json:"items"`
	}
	for _, read := range []struct {
		call client.Call
		into any
	}{
		{client.Call{Operation: client.ListInvoices, Query: url.Values{"limit": {"1"}}}, &newest},
		{client.Call{Operation: client.ListSellers}, &sellers},
	} {
		answer, err := d.r.do(ctx, read.call)
		if err == nil {
			err = answer.Into(read.into)
		}
		if code := gatehouse.CodeOf(err); err != nil && (code == gatehouse.CodeForbidden || code == gatehouse.CodeNotBuilt || code == gatehouse.CodeBadToken) {
			return
		}
		if err != nil {
			d.note("billing", "fault", messageOf(err), "")
			return
		}
	}
	named := 0
	for _, s := range sellers.Items {
		if s.Party.Name != "" {
			named++
		}
	}
	switch {
	case len(newest.Items) > 0 && len(newest.Items[0].Warnings) > 0:
		series, _, _ := strings.Cut(newest.Items[0].Number, "-")
		hint := "set who sells before the next is issued: gatehouse billing seller " + series + " -f FILE"
		if named > 0 {
			hint = "take it back, and bill its period anew: gatehouse invoice void " + newest.Items[0].Number + " --reissue"
		}
		d.note("billing", "warning", "the newest invoice has no name of a seller", hint)
	case named == 0:
		d.note("billing", "ok", "no seller is set: invoices would have no name of one", "set it before the first is issued: gatehouse billing seller GH -f FILE")
	default:
		d.note("billing", "ok", count(named, "seller")+" with a name", "")
	}
}
