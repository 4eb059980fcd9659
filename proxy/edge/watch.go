package edge

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Files must rest for as long as settle before they are read, as a pair is
// written in two steps; files that never rest are read every patience.
const (
	settle   = 50 * time.Millisecond
	patience = 10 * settle
)

// lookAge is how often the files are read though nothing was seen to change: a
// link in the middle of a path may lead elsewhere, and some file systems tell
// of nothing.
const lookAge = 30 * time.Second

// Run puts changes of the certificates in use as they happen, and changes the
// keys of session tickets every 12 hours, until ctx ends. It logs faults.
// Files may be replaced in any way; of links, those that the folder and its
// files lead to are followed, as Kubernetes mounts them.
func (t *TLS) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch certificates %s: %w", t.folder, err)
	}
	defer watcher.Close()
	t.watch(watcher)
	rotate := time.NewTicker(ticketAge)
	defer rotate.Stop()
	look := time.NewTicker(lookAge)
	defer look.Stop()
	told := ""                // the last fault that was logged
	timer := time.NewTimer(0) // what changed between NewTLS and here
	defer timer.Stop()
	due := time.Now() // when what has been seen is read at the latest
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rotate.C:
			t.configs.rotate()
		case <-look.C:
			timer.Reset(0)
		case e := <-watcher.Events:
			if !t.concerns(e.Name) {
				continue
			}
			if due.IsZero() {
				due = time.Now().Add(patience)
			}
			timer.Reset(min(settle, time.Until(due)))
		case err := <-watcher.Errors:
			t.log.Warn("watching certificates", "path", t.folder, "error", err)
			timer.Reset(settle) // events may have been lost
		case <-timer.C:
			due = time.Time{}
			t.watch(watcher) // first: what changes from here on is seen
			changed, err := t.reload()
			if err != nil && err.Error() != told {
				t.log.Error("certificates with faults; what was in use stays", "path", t.folder, "error", err)
			}
			if told = ""; err != nil {
				told = err.Error()
			}
			if changed {
				t.log.Info("certificates changed", "path", t.folder, "certificates", len(t.shelf.Load().pairs))
			}
		}
	}
}

// concerns is false for neighbours of the folder. What is within concerns, and
// what links lead to.
func (t *TLS) concerns(name string) bool {
	folder := filepath.Clean(t.folder)
	return filepath.Dir(name) != resolved(filepath.Dir(folder)) || filepath.Base(name) == filepath.Base(folder) || ofPair(name)
}

// ofPair reports whether a file is half of a pair by its name.
func ofPair(name string) bool {
	suffix := filepath.Ext(name)
	return suffix == certificateSuffix || suffix == keySuffix
}

// watch adds every folder that decides what the files hold: the folder, the
// one above it, where it may be replaced, and those that links lead to. It
// drops those that no longer do. Folders are watched, not files, because a
// file that is replaced is another file.
func (t *TLS) watch(w *fsnotify.Watcher) {
	folder := filepath.Clean(t.folder)
	folders := []string{resolved(filepath.Dir(folder)), resolved(folder)}
	entries, _ := os.ReadDir(folder) // reload tells why it cannot be read
	for _, e := range entries {
		if ofPair(e.Name()) && e.Type()&os.ModeSymlink != 0 {
			folders = append(folders, filepath.Dir(resolved(filepath.Join(folder, e.Name()))))
		}
	}
	slices.Sort(folders)
	folders = slices.Compact(folders)
	for _, old := range w.WatchList() {
		if _, ok := slices.BinarySearch(folders, old); !ok {
			_ = w.Remove(old) // it may be gone, and its watch with it
		}
	}
	for _, f := range folders {
		// Again even when it is watched: it may be another folder now.
		if err := w.Add(f); err != nil {
			t.log.Warn("folder of certificates not watched", "path", f, "error", err)
		}
	}
}

// resolved follows links; a path that leads nowhere is itself.
func resolved(path string) string {
	if r, err := filepath.EvalSymlinks(path); err == nil {
		return r
	}
	return path
}
