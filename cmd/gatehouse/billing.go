package main

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/control"
	"github.com/gatehouse-gateway/gatehouse/control/invoicing"
	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/webhook"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/ledger"
)

// storeIndex is what lists of the store are filtered by.
func storeIndex() journal.Index {
	index := maps.Clone(control.Index)
	maps.Copy(index, invoicing.Index)
	return index
}

// till is what the control plane does about money.
type till struct {
	accounts *invoicing.Accounts
	webhooks *webhook.Sender
	usage    *lateUsage
}

// newTill returns the accounts of a store and its webhooks, whose secrets are
// sealed with a key of their own that comes of the store's.
func newTill(j *journal.Journal, plane *control.Plane, key []byte, log *slog.Logger) (*till, error) {
	own, err := hkdf.Key(sha256.New, key, nil, "gatehouse webhooks", 32)
	if err != nil {
		return nil, fmt.Errorf("key of webhooks: %w", err)
	}
	sender, err := webhook.New(webhook.Config{
		Journal: j, Read: invoicing.Message, Kinds: invoicing.MessageKinds, Key: own, Random: rand.Reader, Now: time.Now, Agent: agent(), Log: log,
	})
	if err != nil {
		return nil, err
	}
	usage := &lateUsage{}
	return &till{usage: usage, webhooks: sender, accounts: invoicing.New(invoicing.Parts{
		Store: j, Usage: usage, Now: time.Now, Log: log,
		Tenant: func(ctx context.Context, id gatehouse.TenantID) error { _, err := plane.Tenant(ctx, id); return err },
		Opens:  plane.Undeleted,
		Plan:   func(ctx context.Context, id gatehouse.PlanID) error { _, err := plane.Plan(ctx, id); return err },
	})}, nil
}

// lateUsage is the usage of a ledger that is opened when it is first needed.
type lateUsage struct {
	// open is set before anything is asked; nil: there is no ledger.
	open func(context.Context) (*ledger.Ledger, error)
}

func (u *lateUsage) ledger(ctx context.Context) (*ledger.Ledger, error) {
	if u.open == nil {
		return nil, errors.New("this control plane has no ledger")
	}
	return u.open(ctx)
}

func (u *lateUsage) cells(ctx context.Context, f func(*ledger.Ledger) iter.Seq2[metering.Cell, error]) iter.Seq2[metering.Cell, error] {
	return func(yield func(metering.Cell, error) bool) {
		l, err := u.ledger(ctx)
		if err != nil {
			yield(metering.Cell{}, err)
			return
		}
		f(l)(yield)
	}
}

// TenantCells is that of the ledger, as are the others.
func (u *lateUsage) TenantCells(ctx context.Context, tenant gatehouse.TenantID, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return u.cells(ctx, func(l *ledger.Ledger) iter.Seq2[metering.Cell, error] { return l.TenantCells(ctx, tenant, from, to) })
}

func (u *lateUsage) Cells(ctx context.Context, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return u.cells(ctx, func(l *ledger.Ledger) iter.Seq2[metering.Cell, error] { return l.Cells(ctx, from, to) })
}

func (u *lateUsage) Gateways(ctx context.Context) ([]ledger.Gateway, error) {
	l, err := u.ledger(ctx)
	if err != nil {
		return nil, err
	}
	return l.Gateways(ctx)
}

func (u *lateUsage) Watch(ctx context.Context, until map[gatehouse.TenantID]time.Time) error {
	l, err := u.ledger(ctx)
	if err != nil {
		return err
	}
	return l.Watch(ctx, until)
}

func (u *lateUsage) Late(ctx context.Context, tenant gatehouse.TenantID, after int64) (ledger.LateUsage, error) {
	l, err := u.ledger(ctx)
	if err != nil {
		return ledger.LateUsage{}, err
	}
	return l.Late(ctx, tenant, after)
}

func (u *lateUsage) Noted(ctx context.Context) (map[gatehouse.TenantID]int64, error) {
	l, err := u.ledger(ctx)
	if err != nil {
		return nil, err
	}
	return l.Noted(ctx)
}

func (u *lateUsage) Meters(ctx context.Context) ([]string, error) {
	l, err := u.ledger(ctx)
	if err != nil {
		return nil, err
	}
	return l.Meters(ctx)
}

func (u *lateUsage) TenantMeters(ctx context.Context, tenant gatehouse.TenantID) ([]string, error) {
	l, err := u.ledger(ctx)
	if err != nil {
		return nil, err
	}
	return l.TenantMeters(ctx, tenant)
}

func (u *lateUsage) AdjustIf(ctx context.Context, a ledger.Adjustment, check ledger.Agree) (ledger.Verdict, error) {
	l, err := u.ledger(ctx)
	if err != nil {
		return "", err
	}
	return l.AdjustIf(ctx, a, check)
}
