//go:build !linux

package main

import (
	"context"
	"log/slog"
)

// adviseHugePages leaves it to the system.
func adviseHugePages(context.Context, *slog.Logger) {}
