// Command bench measures Gatehouse beside other proxies at the same work.
//
//	go run ./bench [-scenarios plain,jwt] [-peers nginx] [-rounds 5] [-seconds 5] [-update FILE]
//	go run ./bench -profile cmd/gatehouse/default.pgo [-scenarios ...]
//
// The proxy has the first core, the load and the backends the second. Rounds
// are interleaved. The figure compared is CPU time for a request: user and
// system time of the proxy's processes over the requests it answered. Each
// proxy is first shown to do the work: an unknown host gets 404, a wrong token
// or key 401, a limit set low 429.
//
// The configurations of the peers are the templates in bench/peers; peers that
// this machine lacks are named and left out.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("scenarios", "", "names, separated by commas; all unless given")
	peers := flags.String("peers", "nginx,haproxy,caddy,traefik,fasthttp,fasthttp-quiet,relay,nginx-opa", "peers to measure beside Gatehouse")
	builds := flags.String("builds", "", "other builds of Gatehouse to measure beside this one, NAME=PATH, separated by commas")
	rounds := flags.Int("rounds", 5, "rounds of each peer, interleaved")
	seconds := flags.Int("seconds", 5, "length of a round")
	profile := flags.String("profile", "", "file for where Gatehouse spends its CPU time in all these scenarios; it is measured alone then, and its figures do not count")
	page := flags.String("update", "", "page whose tables, between <!-- bench --> and <!-- /bench -->, are replaced")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *profile != "" && (*builds != "" || *page != "") {
		return fmt.Errorf("-profile goes neither with -builds nor with -update")
	}
	if runtime.NumCPU() < 2 {
		return fmt.Errorf("two cores are needed")
	}
	beside := strings.Split(*peers, ",")
	if *profile != "" {
		beside = nil
	}
	all := scenarios()
	if *only != "" {
		for _, name := range strings.Split(*only, ",") {
			if !slices.ContainsFunc(all, func(s scenario) bool { return s.name == name }) {
				return fmt.Errorf("no scenario is called %q", name)
			}
		}
		all = slices.DeleteFunc(all, func(s scenario) bool { return !slices.Contains(strings.Split(*only, ","), s.name) })
	}
	b, err := newBench(ctx, beside, work{*rounds, time.Duration(*seconds) * time.Second})
	if err != nil {
		return err
	}
	defer b.close()
	b.profile = *profile
	if *builds != "" {
		b.builds = strings.Split(*builds, ",")
	}
	var tables []string
	for _, s := range all {
		table, err := b.scenario(ctx, s)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		fmt.Println(table)
		tables = append(tables, table)
		if *page != "" { // each at once: a later scenario may fail
			if err := update(*page, tables); err != nil {
				return err
			}
		}
	}
	return b.merge(ctx)
}
