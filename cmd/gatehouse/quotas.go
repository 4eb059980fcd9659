package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// quotaFile, under the data folder, holds what quotas have counted in this
// process, so that a restart does not grant them anew.
const quotaFile = "quotas.ndjson"

// quotaEvery is the time between two writes of it: what a process counts after
// the last one is forgotten if it is killed.
const quotaEvery = 5 * time.Second

// loadQuotas takes the counts of the process before up. A file that is damaged
// costs what cannot be read of it.
func (p *process) loadQuotas() {
	file := filepath.Join(p.cfg.Data, quotaFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = p.gateway.LoadQuotas(bytes.NewReader(b))
	}
	if err != nil {
		p.log.Warn("counts of quotas not taken up whole", "file", file, "error", err)
	}
}

// keepQuotas writes the counts now and then, and when ctx ends, from when the
// data folder is this process's.
func (p *process) keepQuotas(ctx context.Context) error {
	select {
	case <-p.owned:
	case <-ctx.Done():
		return nil // it was never ours
	}
	tick := time.NewTicker(quotaEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return p.saveQuotas()
		case <-tick.C:
			if err := p.saveQuotas(); err != nil {
				p.log.Warn("counts of quotas not written", "error", err)
			}
		}
	}
}

// saveQuotas replaces the file as a whole.
func (p *process) saveQuotas() error {
	var b bytes.Buffer
	if err := p.gateway.SaveQuotas(&b, time.Now()); err != nil {
		return fmt.Errorf("counts of quotas: %w", err)
	}
	file := filepath.Join(p.cfg.Data, quotaFile)
	if err := os.WriteFile(file+".new", b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("counts of quotas: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("counts of quotas: %w", err)
	}
	return nil
}
