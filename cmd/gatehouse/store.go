package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/insight"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/policy"
	"github.com/gatehouse-gateway/gatehouse/proxy"
	"golang.org/x/sync/errgroup"
)

// store is a control plane over its journal.
type store struct {
	journal   *journal.Journal
	plane     *control.Plane
	operators *control.Operators
	gateways  *control.Gateways
	till      *till
	insight   *insight.Store
}

// openStore opens the journal and builds the control plane over it. At the
// first start it makes the key of secrets and the owner's token, and says so on
// standard error, with the address that the control API has.
func openStore(ctx context.Context, s *streams, cfg *config, at net.Addr, log *slog.Logger, engine *policy.Engine) (_ *store, err error) {
	address := cfg.Store.URL
	if file, ok := strings.CutPrefix(address, sqliteScheme); ok {
		if address = file; !filepath.IsAbs(file) {
			address = filepath.Join(cfg.Data, file)
		}
	}
	j, err := journal.Open(ctx, journal.Config{Address: address, Index: storeIndex()})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = j.Close() // what led here is the error
		}
	}()
	head, err := j.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	key, err := secretKey(cfg, head.Seq == 0)
	if err != nil {
		return nil, err
	}
	plane, err := control.New(ctx, control.Parts{
		Journal: j, Engine: engine, SecretKey: key, Random: rand.Reader, Now: time.Now, Log: log,
		Check: func(doc *gatehouse.Document) gatehouse.Faults { return proxy.Check(engine, doc) },
		Books: invoicing.New(invoicing.Parts{Store: j}),
	})
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if err := bootstrap(ctx, s, cfg, at, plane); err != nil {
		return nil, err
	}
	decide, err := newAuthorizer(engine)
	if err != nil {
		return nil, err
	}
	operators, err := control.NewOperators(ctx, plane, decide)
	if err != nil {
		return nil, err
	}
	till, err := newTill(j, plane, key, log)
	if err != nil {
		return nil, err
	}
	series, err := insight.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	name, err := os.Hostname()
	if err != nil {
		name = cfg.Control.Listen // it is shown to people only
	}
	return &store{j, plane, operators, control.NewGateways(time.Now, name, j.Peers()), till, series}, nil
}

func (s *store) close() error { return errors.Join(s.insight.Close(), s.journal.Close()) }

// secretKey reads the key of secrets, and makes it where the store is new.
func secretKey(cfg *config, first bool) ([]byte, error) {
	name := cfg.Store.SecretKeyFile
	if name == "" {
		name = filepath.Join(cfg.Data, "secrets.key")
	}
	key, err := readKey(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if !first || cfg.Store.SecretKeyFile != "" {
		return nil, fmt.Errorf("key of secrets: %w; the store was made with one: put it back, or name it as store.secret_key_file", err)
	}
	if key, err = control.NewSecretKey(); err != nil {
		return nil, err
	}
	return key, writePrivate(name, base64.StdEncoding.EncodeToString(key)+"\n")
}

// readKey reads a key of 32 bytes in base64.
func readKey(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("key %s: 32 bytes in base64 are expected, such as openssl rand -base64 32 makes", name)
	}
	return key, nil
}

// writePrivate makes a file that only this user reads, whole or not at all.
func writePrivate(name, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // it is of no use
		}
	}()
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(f.Name(), name)
}

// The owner's first token.
const (
	bootstrapID   = "bootstrap"
	bootstrapFile = "bootstrap-token"
)

// bootstrap makes the owner's token in a store that has no token yet. The
// pending file tells a start after a crash that nobody has seen the token.
func bootstrap(ctx context.Context, s *streams, cfg *config, at net.Addr, plane *control.Plane) error {
	name := filepath.Join(cfg.Data, bootstrapFile)
	pending := name + ".pending"
	actor := control.Mutation{Actor: "system", Why: "first start"}
	if _, err := os.Stat(pending); err == nil {
		if _, err := plane.RevokeToken(ctx, bootstrapID, actor); err != nil && gatehouse.CodeOf(err) != gatehouse.CodeNotFound {
			return fmt.Errorf("make the owner's token again: %w", err)
		}
	}
	tokens, err := plane.Tokens(ctx, "", 1)
	if err != nil || len(tokens.Items) > 0 {
		return err
	}
	if err := writePrivate(pending, ""); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	token, err := plane.CreateToken(ctx, control.NewToken{ID: bootstrapID, Name: "first start", Role: control.Owner}, actor)
	if gatehouse.CodeOf(err) == gatehouse.CodeConflict { // another control plane was first
		return os.Remove(pending)
	}
	if err != nil {
		return fmt.Errorf("make the owner's token: %w", err)
	}
	if err := writePrivate(name, token.Secret+"\n"); err != nil {
		return fmt.Errorf("keep the owner's token: %w", err)
	}
	if err := os.Remove(pending); err != nil {
		return err
	}
	if s.demo {
		return nil
	}
	fmt.Fprintf(s.errors, `This is the first start. The owner's token is shown this once, and kept in %s:

  %s

%s

`, absolute(name), token.Secret, howToReach(cfg, at))
	return nil
}

// howToReach says how the command line finds a control plane that has just
// begun, and its token.
func howToReach(cfg *config, at net.Addr) string {
	server := "http://" + at.String()
	if cfg.Control.TLS.Cert != "" {
		_, port, _ := net.SplitHostPort(at.String()) // the kernel has written it
		server = "https://NAME:" + port
	}
	add := "  gatehouse context add local --server " + server + " --token-file " + quoted(absolute(filepath.Join(cfg.Data, bootstrapFile)))
	if server == defaultServer && absolute(cfg.Data) == absolute(defaultConfig().Data) {
		return "The command line finds it by itself in this folder. Anywhere else on this machine, once:\n\n" + add
	}
	return "For the command line to find it, once:\n\n" + add
}

// absolute is the name of a file from the root, where that can be told.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// quoted is a name as a shell takes it.
func quoted(name string) string {
	if plainPath.MatchString(name) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=-]+$`)

// run keeps the control plane up until ctx ends.
func (s *store) run(ctx context.Context, log *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.operators.Run(ctx) })
	g.Go(func() error { return s.plane.Run(ctx) })
	g.Go(func() error { s.gateways.Run(ctx, log); return nil })
	g.Go(func() error { return s.prune(ctx, log) })
	g.Go(func() error { return s.till.accounts.Run(ctx) })
	g.Go(func() error { return s.till.webhooks.Run(ctx) })
	return g.Wait()
}

// follow hands every change of the store to the gateway until ctx ends. When
// the store fails it tries again: the gateway serves on.
func (s *store) follow(ctx context.Context, log *slog.Logger, from control.Position, apply func(gatehouse.Update) gatehouse.Outcome, first func()) error {
	end := s.gateways.Connect(control.LocalGateway, version(), "")
	defer end()
	for {
		err := s.followOnce(ctx, &from, apply, first)
		if ctx.Err() != nil {
			return nil
		}
		log.Error("the store is not read; serving on", "error", err, "revision", from.Revision)
		if pause(ctx, time.Second) != nil {
			return nil
		}
	}
}

func (s *store) followOnce(ctx context.Context, from *control.Position, apply func(gatehouse.Update) gatehouse.Outcome, first func()) error {
	for u, err := range s.plane.Follow(ctx, *from) {
		if err != nil {
			return err
		}
		s.gateways.Send(control.LocalGateway, u.Revision)
		if err := s.gateways.Report(control.LocalGateway, apply(u)); err != nil {
			return err
		}
		*from = control.Position{Revision: u.Revision, Hash: u.Hash}
		first()
	}
	return errors.New("the updates ended")
}
