package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// runFlags override the process configuration.
type runFlags struct {
	config, tenants, data, listen, control string
	roles                                  []string
	demo, takeover                         bool
	cpuProfile                             string
}

func runCommand(s *streams) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway and its control plane",
		Long: `Run serves tenants. They are kept in a store below the data folder, and
changed over the control API and by the other commands. The first start prints
the owner's token, and writes it to bootstrap-token in the data folder.

With --tenants they come from documents instead, and no store is opened. A save
of a document takes effect at once, for the tenants that it changes; a faulty
file keeps its tenants as they are.

With --roles proxy the process serves the tenants of a control plane elsewhere,
which control.url names; with --roles control it is one, and serves nothing
itself.

SIGHUP reads documents and certificates again. SIGTERM and SIGINT end the process: it stops
accepting, lets requests in flight finish, and exits; a second one ends the
waiting.

With --takeover it takes the listening sockets from the process that uses the
data folder, which then drains and exits; no connection is refused. Where no
process uses the folder it starts as without.`,
		Example: "  gatehouse run --demo\n  gatehouse run --listen 0.0.0.0:8080\n  gatehouse run --tenants tenants/",
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, warnings, err := f.read()
			if err != nil {
				return err
			}
			if len(warnings) > 0 {
				fmt.Fprintln(s.errors, warnings.Error())
			}
			atLeastTwo(s.getenv)
			ctx, stop := signals(cmd.Context())
			defer stop()
			if f.demo && f.takeover {
				return &exit{exitUsage, errors.New("the backends of --demo end with their process: leave out --takeover")}
			}
			if f.takeover && cfg.mode() == modeControl {
				return &exit{exitUsage, errors.New("a control plane alone is not taken over: its data planes serve on while it restarts: leave out --takeover")}
			}
			return profiled(f.cpuProfile, func() error { return f.run(ctx, s, &cfg) })
		},
	}
	c.Flags().StringVar(&f.config, "config", "", "process configuration (see configs/gatehouse.yaml)")
	c.Flags().StringVar(&f.tenants, "tenants", "", "file or folder of tenant documents, in place of the store")
	c.Flags().StringVar(&f.data, "data", "", "folder of what the process keeps (default ./gatehouse-data)")
	c.Flags().StringVar(&f.listen, "listen", "", "address of the data plane (default 127.0.0.1:8080)")
	c.Flags().StringVar(&f.control, "control", "", "address of the control API (default 127.0.0.1:9090)")
	c.Flags().StringSliceVar(&f.roles, "roles", nil, "proxy, control, or both (default)")
	c.Flags().BoolVar(&f.takeover, "takeover", false, "take the sockets over from the process that uses the data folder")
	c.Flags().StringVar(&f.cpuProfile, "cpu-profile", "", "file for where the CPU time went, written at the end, for go tool pprof")
	c.Flags().BoolVar(&f.demo, "demo", false, "run two example tenants with their backends, and say what to try")
	return c
}

// run is what the process does until ctx ends.
func (f *runFlags) run(ctx context.Context, s *streams, cfg *config) error {
	if s.demo = f.demo; f.demo {
		return runDemo(ctx, s, cfg, f.data == "")
	}
	if cfg.mode() == modeControl {
		return runControl(ctx, s, cfg)
	}
	p, err := assemble(ctx, s, cfg, f.takeover)
	if err != nil {
		return err
	}
	return p.run(ctx, nil)
}

func (f *runFlags) apply(c *config) {
	for _, o := range []struct {
		flag string
		to   *string
	}{{f.tenants, &c.Tenants}, {f.data, &c.Data}, {f.listen, &c.Proxy.Listen}, {f.control, &c.Control.Listen}} {
		if o.flag != "" {
			*o.to = o.flag
		}
	}
	if len(f.roles) > 0 {
		c.Roles = f.roles
	}
}

// contextKey finds the channels that signals puts into its context.
type contextKey int

const (
	hurryKey contextKey = iota
	reloadKey
)

// signals returns a context that ends at the first SIGTERM or SIGINT and
// carries the channels of a second one and of SIGHUP.
func signals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	hurry, reload := make(chan struct{}), make(chan struct{}, 1)
	caught := make(chan os.Signal, 4)
	signal.Notify(caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		ends := 0
		for {
			select {
			case <-done:
				return
			case sig := <-caught:
				if sig == syscall.SIGHUP {
					select {
					case reload <- struct{}{}:
					default: // one is waiting already
					}
					continue
				}
				switch ends++; ends {
				case 1:
					cancel()
				case 2:
					close(hurry)
				}
			}
		}
	}()
	ctx = context.WithValue(context.WithValue(ctx, hurryKey, hurry), reloadKey, reload)
	return ctx, func() { signal.Stop(caught); close(done); cancel() }
}

// serve runs both planes until ctx ends, and then drains. started, if not
// nil, is called once requests are answered.
func serve(ctx context.Context, s *streams, cfg *config, started func(ctx context.Context, p *process) error) error {
	p, err := assemble(ctx, s, cfg, false)
	if err != nil {
		return err
	}
	return p.run(ctx, started)
}

// process is a gateway with its control plane, ready to run.
type process struct {
	cfg     *config
	log     *slog.Logger
	meter   *metering.Meter
	gateway *proxy.Gateway
	limits  *limits // nil: counted in memory
	sinks   *sinks
	feed    feed
	book    *control.Book // of documents; nil: tenants come from elsewhere
	store   *store        // nil: there is none in this process
	remote  *remoteFeed   // nil: the control plane is not elsewhere
	sockets sockets
	data    net.Listener
	secure  net.Listener // nil: no TLS
	control net.Listener
	api     *controlServer
	access  *os.File

	before   *predecessor  // serves until this process does; nil: none
	lock     *os.File      // held as long as the process uses the data folder; nil until before has left it; p.own's
	owned    chan struct{} // closed when the data folder is this process's
	handover *handover
	cuts     atomic.Uint64 // evaluations of policies that ran out of their budget
	callers  atomic.Int64  // open connections of the control API
	admitted chan struct{} // closed when the control API takes no more of them
}

// assemble builds everything in the order of its dependencies. What can fail
// fails here, before a request is taken; what was opened is closed again. With
// takeover set, and the data folder in use, the sockets are those of the
// process that uses it, and the folder stays its own.
func assemble(ctx context.Context, s *streams, cfg *config, takeover bool) (_ *process, err error) {
	p := &process{
		cfg: cfg, log: slog.New(slog.NewTextHandler(s.errors, &slog.HandlerOptions{Level: cfg.Log.Level})),
		owned: make(chan struct{}), admitted: make(chan struct{}),
	}
	engine, err := newEngine(p.cut)
	if err != nil {
		return nil, err
	}
	if cfg.mode() == modeFiles {
		if _, problems := checkDocuments(engine, cfg.Tenants); len(problems.Errors()) > 0 {
			return nil, problems
		}
	}
	if err := p.occupy(ctx, takeover); err != nil {
		return nil, p.abandon(err)
	}
	begin := metering.Open
	if p.before != nil {
		begin = metering.OpenLater
	}
	if p.sinks, err = openSinks(cfg); err != nil {
		return nil, p.abandon(err)
	}
	counting := cfg.Metering.options(cfg.Data, p.sinks.all)
	counting.Tell = p.tellOfUsage
	if p.meter, err = begin(counting); err != nil {
		return nil, p.abandon(fmt.Errorf("data folder %s: %w", cfg.Data, err))
	}
	p.handover = &handover{
		folder: cfg.Data, sockets: p.sockets.serving, limit: readyLimit, log: p.log, ending: ctx.Done(), taken: make(chan struct{}),
	}
	access, file, err := cfg.Log.openAccess(s)
	if err != nil {
		return nil, p.abandon(err)
	}
	p.access = file
	if p.limits, err = openLimits(&cfg.Limits, p.log); err != nil {
		return nil, p.abandon(err)
	}
	if p.gateway, err = proxy.New(cfg.Proxy, proxy.Parts{
		Engine: engine, Meter: p.meter, Log: p.log, Access: access, Headers: cfg.Limits.Headers, Limits: p.limits.part(),
	}); err != nil {
		return nil, p.abandon(err)
	}
	if err := p.connect(ctx, s, engine); err != nil {
		return nil, p.abandon(err)
	}
	if p.api, err = newControlServer(p.control, cfg, p.log, p.handler()); err != nil {
		return nil, p.abandon(err)
	}
	p.api.ConnState = p.countCallers
	return p, nil
}

// occupy takes the data folder and the addresses to listen on. A folder that is
// not there yet is made last: then an address in use leaves nothing behind.
func (p *process) occupy(ctx context.Context, takeover bool) (err error) {
	first := isNew(p.cfg.Data)
	if first {
		if err := p.listen(); err != nil {
			return err
		}
	}
	if p.lock, p.before, err = claim(ctx, p.cfg.Data, takeover); err != nil {
		return err
	}
	if p.before != nil {
		p.sockets.inherited = p.before.sockets
	}
	if !first {
		err = p.listen()
	}
	p.sockets.decline()
	return err
}

// isNew tells of a folder that is not there yet.
func isNew(folder string) bool {
	_, err := os.Stat(folder)
	return errors.Is(err, fs.ErrNotExist)
}

// listen opens the addresses of the configuration, or takes what is inherited
// of them.
func (p *process) listen() (err error) {
	if p.data, err = p.sockets.listen("data plane", p.cfg.Proxy.Listen); err != nil {
		return err
	}
	if listen := p.cfg.Proxy.TLS.Listen; listen != "" {
		if p.secure, err = p.sockets.listen("data plane over TLS", listen); err != nil {
			return err
		}
	}
	p.control, err = p.sockets.listen("control plane", p.cfg.Control.Listen)
	return err
}

// connect ties the gateway to where its tenants come from.
func (p *process) connect(ctx context.Context, s *streams, engine *policy.Engine) (err error) {
	switch p.cfg.mode() {
	case modeFiles:
		p.book = control.NewBook(p.gateway.Apply)
		p.feed = fileFeed{control.NewFiles(p.cfg.Tenants, p.book, p.log)}
	case modeProxy:
		if p.remote, err = newRemoteFeed(p); err == nil {
			p.feed = p.remote
		}
	default:
		if p.store, err = openStore(ctx, s, p.cfg, p.control.Addr(), p.log, engine); err == nil {
			p.feed = newStoreFeed(p)
		}
	}
	return err
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// abandon closes what assemble had opened.
func (p *process) abandon(err error) error {
	p.sockets.close()
	p.limits.close()
	_ = p.sinks.close() // nothing is lost: usage is in the log
	if p.before != nil {
		p.before.close()
	}
	if p.store != nil {
		_ = p.store.close() // what led here is the error
	}
	for _, f := range []*os.File{p.access, p.lock} {
		if f != nil {
			_ = f.Close() // nothing was written
		}
	}
	return err
}

// run serves until ctx ends, then drains in this order: no longer ready, no
// new connections, requests in flight finish, counters are written, the
// control API goes last.
func (p *process) run(ctx context.Context, started func(context.Context, *process) error) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	reload, _ := ctx.Value(reloadKey).(chan struct{})
	g, failed := errgroup.WithContext(background)
	g.Go(func() error { return p.meter.Run(background) })
	g.Go(func() error { return p.gateway.Run(background) })
	g.Go(func() error { return p.limits.run(background) })
	if p.cfg.Memory.HugePages == hugePagesAuto {
		g.Go(func() error { adviseHugePages(background, p.log); return nil })
	}
	p.loadQuotas()
	err := p.feed.load(background)
	if err == nil {
		err = p.succeed(ctx)
	}
	if err != nil {
		stop()
		return p.abandon(errors.Join(err, g.Wait()))
	}
	g.Go(func() error { p.own(background); return nil })
	g.Go(func() error { return p.keepQuotas(background) })
	again := make(chan struct{})
	g.Go(func() error { return p.reload(background, reload, again) })
	g.Go(func() error { return p.feed.run(background, again) })
	if p.store != nil {
		g.Go(func() error { return p.store.run(background, p.log) })
	}
	if c := p.collector(); c != nil {
		g.Go(func() error { return c.run(background) })
	}
	g.Go(func() error { return p.gateway.Serve(p.data) })
	if p.secure != nil {
		g.Go(func() error { return p.gateway.ServeTLS(p.secure) })
	}
	g.Go(func() error {
		defer close(p.admitted)
		return p.api.serve()
	})
	secure := "off"
	if p.secure != nil {
		secure = p.secure.Addr().String()
	}
	p.log.Info("serving", "version", version(), "data_plane", p.data.Addr().String(), "control", p.control.Addr().String(), "data", absolute(p.cfg.Data), "tls", secure)
	if p.book != nil && !isLoopback(p.control.Addr()) {
		p.log.Warn("the control API asks for no credentials; bind it to loopback", "control", p.control.Addr().String())
	}
	if started != nil {
		g.Go(func() error { return started(background, p) })
	}
	ceded := make(chan struct{})
	g.Go(func() error { p.cede(background, ceded); return nil })
	select {
	case <-ctx.Done():
	case <-ceded:
	case <-failed.Done(): // a part failed: its error comes from Wait
	}
	err = p.drain(ctx)
	p.awaitFolder(ctx)
	stop()
	p.closeAPI(ctx) // metering has been flushed when Wait returns; the API may say so until then
	err = errors.Join(g.Wait(), err)
	err = errors.Join(err, p.sinks.close())
	if p.store != nil {
		err = errors.Join(err, p.store.close())
	}
	if p.access != nil {
		err = errors.Join(err, p.access.Close())
	}
	if p.lock != nil {
		err = errors.Join(err, p.lock.Close())
	}
	p.log.Info("stopped", "error", err)
	return err
}

// tellOfUsage logs what the meter tells.
func (p *process) tellOfUsage(e metering.Event) {
	p.log.Warn("metering: "+e.What, "epoch", e.Epoch.String(), "detail", e.Detail)
}

// cut notes an evaluation that ran out of its budget.
func (p *process) cut(c policy.Cut) {
	p.cuts.Add(1)
	if c.Aside > 0 {
		p.log.Warn("policy put aside: its evaluations run out of their budget", "tenant", c.Tenant, "for", c.Aside.String())
	}
}

func (p *process) writePolicyMetrics(w io.Writer) {
	metrics.WriteCounterUint64(w, "gatehouse_policy_cut_total", p.cuts.Load())
}

// reload reads everything again at each value from asked, until ctx ends; the
// documents are told to by again.
func (p *process) reload(ctx context.Context, asked <-chan struct{}, again chan<- struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-asked:
		}
		p.log.Info("reading documents and certificates again")
		p.gateway.Reload()
		p.api.reload(p.log)
		select {
		case again <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *process) drain(ctx context.Context) error {
	p.log.Info("draining", "deadline", p.cfg.Proxy.Timeouts.Drain.String())
	limit, cancel := p.patience(ctx)
	defer cancel()
	return p.gateway.Shutdown(limit)
}

// patience returns a context that ends when the time to drain is over, or at
// the second signal.
func (p *process) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.Proxy.Timeouts.Drain.Or(30*time.Second))
	if hurry, ok := ctx.Value(hurryKey).(chan struct{}); ok {
		go func() {
			select {
			case <-hurry:
				cancel()
			case <-limit.Done():
			}
		}()
	}
	return limit, cancel
}

// closeAPI lets the requests of the control API finish, and ends it.
func (p *process) closeAPI(ctx context.Context) {
	p.api.leave()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if p.api.Shutdown(limit) != nil {
		_ = p.api.Close() // a client that will not go
	}
}
