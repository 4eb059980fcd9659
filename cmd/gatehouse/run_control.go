package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/api"
	"golang.org/x/sync/errgroup"
)

// runControl is a process with the control role alone.
func runControl(ctx context.Context, s *streams, cfg *config) (err error) {
	log := slog.New(slog.NewTextHandler(s.errors, &slog.HandlerOptions{Level: cfg.Log.Level}))
	engine, err := newEngine(nil)
	if err != nil {
		return err
	}
	lock, listener, err := occupyControl(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer listener.Close()
	store, err := openStore(ctx, s, cfg, listener.Addr(), log, engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	usage, err := openSinks(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, usage.close()) }()
	server, err := newControlServer(listener, cfg, log, store.handler(api.REST{
		Ledger: usage.ledger.open, Log: log, Loopback: isLoopback(listener.Addr()), Metrics: []func(io.Writer){writeProcessMetrics},
		Checks: []api.Check{{Name: "store", State: func() error { return store.reachable(ctx) }}},
	}))
	if err != nil {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, failed := errgroup.WithContext(background)
	g.Go(func() error { return store.run(background, log) })
	g.Go(server.serve)
	log.Info("serving", "version", version(), "data_plane", "off", "control", listener.Addr().String(), "data", absolute(cfg.Data), "tls", "off")
	reload, _ := ctx.Value(reloadKey).(chan struct{})
	for serving := true; serving; {
		select {
		case <-reload:
			server.reload(log)
		case <-ctx.Done():
			serving = false
		case <-failed.Done():
			serving = false
		}
	}
	log.Info("draining")
	server.leave()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if server.Shutdown(limit) != nil {
		_ = server.Close() // a client that will not go
	}
	stop()
	err = g.Wait()
	log.Info("stopped", "error", err)
	return err
}

// occupyControl takes the data folder and the address to listen on. A folder
// that is not there yet is made last.
func occupyControl(cfg *config) (lock *os.File, l net.Listener, err error) {
	first := isNew(cfg.Data)
	if !first {
		if lock, err = lockFolder(cfg.Data); err != nil {
			return nil, nil, err
		}
	}
	var s sockets
	if l, err = s.listen("control plane", cfg.Control.Listen); err == nil && first {
		if lock, err = lockFolder(cfg.Data); err != nil {
			s.close()
		}
	}
	if err != nil && lock != nil {
		_ = lock.Close() // nothing was written
	}
	return lock, l, err
}

// reachable tells whether the store answers.
func (s *store) reachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := s.plane.Head(ctx)
	return err
}
