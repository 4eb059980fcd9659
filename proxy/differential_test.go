package proxy_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress/corpus"
	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

func bothCorpora(t *testing.T) []verdict {
	t.Helper()
	return append(judged(t, corpus.Load, "ingress/testdata"), judged(t, corpus.LoadPublic, "ingress/testdata/public")...)
}

// The law: whatever stands behind the gateway understands the requests that
// the gateway forwarded, no other and no different. The cases go over one
// gateway one after the other, so that they share its connections to the peer,
// and behind each a request whose answer must be its own.
func TestDifferential(t *testing.T) {
	var verdicts []verdict
	for _, v := range bothCorpora(t) {
		if v.waits {
			v = v.left()
		}
		if len(v.asked) > 0 || v.body {
			verdicts = append(verdicts, v)
		}
	}
	all := peers(t)
	rows := make([]row, len(all))
	var running sync.WaitGroup
	for i, p := range all {
		document := fmt.Sprintf(everyHost, p.addr)
		h := proxytest.New(t, document, proxytest.Options{TCP: true, NoAccess: true, Config: func(c *proxy.Config) { c.HTTP2.Off = true }})
		addr := listen(t, h.Gateway.Serve)
		running.Go(func() { rows[i] = differ(t, p, addr, verdicts) })
	}
	running.Wait()
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-10s %5s %9s %8s %10s %9s %7s", "behind it", "cases", "forwarded", "declined", "understood", "different", "time")
	for i, r := range rows {
		fmt.Fprintf(&table, "\n%-10s %5d %9d %8d %10d %9d %7v", all[i].name, len(verdicts), r.forwarded, r.declined, r.understood, r.different, r.took.Round(time.Millisecond))
		all[i].fault(t)
	}
	t.Log(table.String())
}

// row counts requests, and the cases in which not the same was understood.
type row struct {
	forwarded, declined, understood, different int
	took                                       time.Duration
}

func differ(t *testing.T, p peer, addr string, verdicts []verdict) (r row) {
	start := time.Now()
	canary := verdict{
		Case: corpus.Case{Raw: []byte(canaryGet)}, methods: []string{"GET"}, answers: []string{"200 GET /canary"},
	}
	for i := range verdicts {
		v, want := p.expects(verdicts[i])
		r.forwarded += len(v.asked)
		r.declined += len(v.asked) - len(want)
		got := converse(clientOf(i), addr, &v, 1<<20)
		if g, w := got, v.answered(); g != w {
			t.Errorf("%s, %s (%s)\n%q\ngot  %s\nwant %s", p.name, v.Name, v.Source, clip(v.Raw), g, w)
		}
		// Of another client, most likely on the connection that the case used.
		if got := converse(clientOf(1<<15), addr, &canary, 1<<20); got != canary.answered() {
			t.Errorf("%s, behind %s\n%q\nthe canary got %s", p.name, v.Name, clip(v.Raw), got)
		}
		understood := p.take()
		understood = slices.DeleteFunc(understood, func(a asked) bool { return a.target == "/canary" })
		r.understood += len(understood)
		if g, w := list(understood, clientOf(i)), list(want, nil); g != w {
			r.different++
			t.Errorf("%s, %s (%s)\n%q\nunderstood\n     %s\nand not\n     %s", p.name, v.Name, v.Source, clip(v.Raw), g, w)
		}
	}
	r.took = time.Since(start)
	return r
}

// expects is the verdict where this peer is behind the gateway, and what it
// understands.
func (p *peer) expects(v verdict) (_ verdict, understood []asked) {
	v.answers = slices.Clone(v.answers)
	for _, a := range v.asked {
		if !p.declines(a) {
			understood = append(understood, a)
			continue
		}
		v.answers[slices.Index(v.answers, "200 "+a.echoed())] = "400"
	}
	return v, understood
}

// list is the requests as text, with the client of those that are of another.
func list(requests []asked, client net.IP) string {
	var s []string
	for _, a := range requests {
		text := a.String()
		if client != nil && a.client != client.String() {
			text += " from " + a.client
		}
		s = append(s, text)
	}
	return strings.Join(s, "\n     ")
}

// What the gateway refuses, sent to the peers without it: how often they take
// more requests out of it than the gateway does, and pass them on. It tells
// what the gateway is for. A peer that takes none of it is not running as it
// should, and then TestDifferential shows nothing.
func TestUngoverned(t *testing.T) {
	groups := []string{}
	cases := map[string][]verdict{}
	for _, v := range judged(t, corpus.Load, "ingress/testdata") {
		if last := v.Wants[len(v.Wants)-1]; last.Status == 200 || last.Status == 408 {
			continue
		}
		group, _, _ := strings.Cut(v.Name, "/")
		if cases[group] == nil {
			groups = append(groups, group)
		}
		cases[group] = append(cases[group], v)
	}
	all := peers(t)[1:]
	taken := make([]map[string]int, len(all))
	var running sync.WaitGroup
	for i, p := range all {
		taken[i] = map[string]int{}
		running.Go(func() {
			for group, verdicts := range cases {
				for j := range verdicts {
					before := p.count()
					if p.drop(&verdicts[j]); p.count()-before > len(verdicts[j].asked) {
						taken[i][group]++
						taken[i]["all"]++
					}
				}
			}
		})
	}
	running.Wait()
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-10s %7s", "cases of", "refused")
	for _, p := range all {
		fmt.Fprintf(&table, " %8s", p.name)
	}
	refused := 0
	for _, verdicts := range cases {
		refused += len(verdicts)
	}
	for _, group := range append(groups, "all") {
		n := len(cases[group])
		if group == "all" {
			n = refused
		}
		fmt.Fprintf(&table, "\n%-10s %7d", group, n)
		for i := range all {
			fmt.Fprintf(&table, " %8d", taken[i][group])
		}
	}
	for i := range all {
		if taken[i]["all"] == 0 {
			t.Errorf("%s takes nothing that the gateway refuses", all[i].name)
		}
	}
	t.Log(table.String())
}

// drop sends a case straight to the peer and waits until that has done with
// it, or a while.
func (p *peer) drop(v *verdict) {
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		return
	}
	defer c.Close()
	var sending sync.WaitGroup
	defer sending.Wait()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return
	}
	sending.Go(func() {
		_, _ = c.Write(v.Raw) // whoever refuses need not read all of it
		_ = c.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(io.Discard, c)
}
