package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/client"
)

// feed brings tenants to the gateway of a process.
type feed interface {
	// load brings what there is, before the process serves.
	load(ctx context.Context) error
	// run brings every change until ctx ends. A value from again asks for
	// everything to be read again.
	run(ctx context.Context, again <-chan struct{}) error
}

// fileFeed is tenants from documents.
type fileFeed struct{ files *control.Files }

func (f fileFeed) load(context.Context) error { f.files.Load(); return nil }

func (f fileFeed) run(ctx context.Context, again <-chan struct{}) error {
	return f.files.Run(ctx, again)
}

// storeFeed is tenants from the store of this process.
type storeFeed struct {
	p      *process
	follow func(context.Context) error
	ready  chan struct{}
	ended  chan error // of follow, which begins with load
	once   sync.Once
}

func newStoreFeed(p *process) *storeFeed {
	f := &storeFeed{p: p, ready: make(chan struct{}), ended: make(chan error, 1)}
	f.follow = func(ctx context.Context) error {
		var answering sync.WaitGroup
		answering.Go(func() { p.store.gateways.Local(ctx, p.answer) })
		defer answering.Wait() // follow returns as ctx ends
		return p.store.follow(ctx, p.log, control.Position{}, p.gateway.Apply, func() { f.once.Do(func() { close(f.ready) }) })
	}
	return f
}

// load begins to follow, and waits for the state of now.
func (f *storeFeed) load(ctx context.Context) error {
	go func() { f.ended <- f.follow(ctx) }()
	select {
	case <-f.ready:
		return nil
	case <-ctx.Done():
		return errEnded
	case err := <-f.ended:
		f.ended <- err
		return err
	}
}

func (f *storeFeed) run(ctx context.Context, again <-chan struct{}) error {
	for {
		select {
		case <-again: // the store is always followed
		case err := <-f.ended:
			return err
		}
	}
}

// remoteFeed is tenants from a control plane elsewhere, or from the last two
// snapshots of it.
type remoteFeed struct {
	*client.Follower
	client  *client.Client
	gateway string
	since   time.Time
	limit   time.Duration // of one report
	log     *slog.Logger
}

// dialControl is a client of the control plane of the configuration, and the
// name of this data plane there. It does not connect.
func dialControl(cfg *config) (_ *client.Client, gateway string, err error) {
	c := &cfg.Control
	token, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return nil, "", fmt.Errorf("read control.token_file: %w", err)
	}
	if gateway = c.Gateway; gateway == "" {
		if gateway, err = os.Hostname(); err != nil {
			return nil, "", fmt.Errorf("this host has no name: set control.gateway: %w", err)
		}
	}
	transport, err := newTransport(c.CAFile)
	if err != nil {
		return nil, "", fmt.Errorf("control.ca_file: %w", err)
	}
	remote, err := client.New(client.Config{Server: c.URL, Token: strings.TrimSpace(string(token)), HTTP: transport, Agent: agent()})
	if err != nil {
		return nil, "", fmt.Errorf("control.url: %w", err)
	}
	return remote, gateway, nil
}

// newRemoteFeed follows the control plane of the configuration. The snapshots
// are those of the process before, if there is one, until it has left the
// folder.
func newRemoteFeed(p *process) (*remoteFeed, error) {
	c := &p.cfg.Control
	remote, gateway, err := dialControl(p.cfg)
	if err != nil {
		return nil, err
	}
	var key []byte
	if c.SnapshotKeyFile != "" {
		if key, err = readKey(c.SnapshotKeyFile); err != nil {
			return nil, fmt.Errorf("control.snapshot_key_file: %w", err)
		}
	}
	var hold <-chan struct{}
	if p.before != nil {
		hold = p.owned
	}
	follower, err := client.NewFollower(client.FollowerConfig{
		Client: remote, Gateway: gateway, Apply: p.gateway.Apply, Folder: filepath.Join(p.cfg.Data, "snapshots"), Key: key, Hold: hold, Log: p.log,
		Tell: map[string]func(gatehouse.TenantID) (any, error){
			string(control.TopicHealth):  func(id gatehouse.TenantID) (any, error) { return p.tenantHealth(id) },
			string(control.TopicMetrics): func(id gatehouse.TenantID) (any, error) { return p.tenantMetrics(id) },
		},
	})
	return &remoteFeed{follower, remote, gateway, time.Now(), reportLimit, p.log}, err
}

// load starts from the disk. Where nothing there can be used the process is
// not ready until the control plane answers; it says why.
func (f *remoteFeed) load(context.Context) error {
	collect := relaxed()
	_ = f.Restore() // Ready tells it until it is mended
	collect()
	return nil
}

func (f *remoteFeed) run(ctx context.Context, again <-chan struct{}) error {
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	for {
		select {
		case <-again: // the control plane is always followed
		case err := <-done:
			return err
		}
	}
}

// heard says how old the state may be, for /readyz?verbose.
func (f *remoteFeed) heard() string {
	s := f.Status()
	if s.Connected {
		return fmt.Sprintf("control plane, heard %s ago, revision %d, hash %s", f.Staleness(f.since, time.Now()).Round(time.Millisecond), s.Revision, s.Hash)
	}
	err := s.Err
	if err == nil {
		err = errors.New("not called yet")
	}
	return fmt.Sprintf("serving without the control plane for %s, revision %d: %v", f.Staleness(f.since, time.Now()).Round(time.Millisecond), s.Revision, err)
}

func (f *remoteFeed) writeMetrics(w io.Writer) {
	s := f.Status()
	metrics.WriteGaugeUint64(w, "gatehouse_control_connected", truth(s.Connected))
	metrics.WriteGaugeFloat64(w, "gatehouse_control_staleness_seconds", f.Staleness(f.since, time.Now()).Seconds())
	metrics.WriteGaugeUint64(w, "gatehouse_control_revision", s.Revision)
	metrics.WriteGaugeUint64(w, "gatehouse_control_kept_revision", s.Kept)
	metrics.WriteGaugeUint64(w, "gatehouse_control_refused_tenants", uint64(len(s.Refused)))
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func agent() string { return "gatehouse/" + version() }

// relaxed lets the heap grow further between collections while a start fills
// it with what stays: to look through that again and again costs a third of
// the start. A memory limit holds all the same. The caller ends it.
func relaxed() (end func()) {
	const percent = 400
	was := debug.SetGCPercent(percent)
	if was < 0 || was > percent { // the operator knows better
		debug.SetGCPercent(was)
	}
	return func() { debug.SetGCPercent(was) }
}
