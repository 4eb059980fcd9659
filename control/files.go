package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/gatehouse-gateway/gatehouse/configs"
)

// Files feeds a book from tenant documents on disk. A faulty file keeps the
// tenants it last held in force; the other files go on changing.
type Files struct {
	path string
	book *Book
	log  *slog.Logger

	// The rest belongs to the goroutine that calls Load, and then Run.
	read map[string]*configs.File // every file as last read
	good map[string]*configs.File // every file as last published
	// matter are the paths of what was read, and of the folders on the way.
	matter map[string]bool
}

// NewFiles returns a feed of path, a file or a folder.
func NewFiles(path string, book *Book, log *slog.Logger) *Files {
	return &Files{path: path, book: book, log: log, read: map[string]*configs.File{}, good: map[string]*configs.File{}}
}

// quiet is how long files must rest before they are read: an editor may save
// in several steps. Files that never rest are read every patience.
const (
	quiet    = 30 * time.Millisecond
	patience = 10 * quiet
)

// Run watches the files and publishes their changes until ctx ends. A value
// from reload reads them at once.
func (f *Files) Run(ctx context.Context, reload <-chan struct{}) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	defer watcher.Close()
	f.watch(watcher)
	settle := time.NewTimer(0) // what changed between Load and here
	due := time.Now()          // when what has been seen is read at the latest
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
			settle.Reset(0)
		case e := <-watcher.Events:
			if !f.concerns(e.Name) {
				continue
			}
			if due.IsZero() {
				due = time.Now().Add(patience)
			}
			settle.Reset(min(quiet, time.Until(due)))
		case err := <-watcher.Errors:
			f.log.Warn("watching files", "path", f.path, "error", err)
			settle.Reset(quiet)
		case <-settle.C:
			due = time.Time{}
			f.Load()
			f.watch(watcher)
		}
	}
}

// concerns reports whether a change of the named file can matter: it is a
// document, a key file or a folder on the way to one. Others, logs among them,
// may live in the same folders and be written at every request.
func (f *Files) concerns(name string) bool {
	name = filepath.Clean(name)
	return f.matter[name] || filepath.Dir(name) == filepath.Clean(f.path) && configs.IsDocument(name)
}

// watch adds the folders of every file that matters. Folders are watched, not
// files, because a file that is replaced is another file.
func (f *Files) watch(w *fsnotify.Watcher) {
	folders := map[string]bool{}
	if info, err := configs.Names(f.path); err != nil || len(info) != 1 || info[0] != f.path {
		folders[f.path] = true
	}
	folders[filepath.Dir(f.path)] = true
	for _, file := range f.read {
		for _, in := range file.Inputs {
			folders[filepath.Dir(in.Path)] = true
		}
	}
	for folder := range folders {
		for !exists(folder) && filepath.Dir(folder) != folder {
			folder = filepath.Dir(folder) // it may be made there
		}
		// Again even when it is watched: a link may lead elsewhere now.
		if err := w.Add(folder); err != nil {
			f.log.Debug("folder not watched", "path", folder, "error", err)
		}
	}
}

// mind finds what concerns the files as they were last read.
func (f *Files) mind() {
	f.matter = map[string]bool{}
	add := func(path string) {
		for path = filepath.Clean(path); !f.matter[path]; path = filepath.Dir(path) {
			f.matter[path] = true
		}
	}
	add(f.path)
	for _, file := range f.read {
		for _, in := range file.Inputs {
			add(in.Path)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Load reads what has changed and publishes it.
func (f *Files) Load() {
	began := time.Now()
	all, problems := f.scan()
	f.mind()
	set := configs.Join(all...)
	problems = append(problems, set.Problems...)
	use, usable := f.usable(all)
	if len(problems.Errors()) > 0 && len(use) == 0 || len(all) == 0 && len(f.good) > 0 && len(problems) > 0 {
		usable = false
	}
	c := Change{Source: f.path, Problems: problems, Began: began, Document: f.book.Document()}
	if usable {
		joined := configs.Join(use...)
		c.Document, c.Locate = joined.Document, joined.Locate
	}
	r, news := f.book.Publish(c)
	if usable {
		f.remember(use)
	}
	if news {
		f.tell(r)
	}
}

// scan returns every file, read again where it may have changed.
func (f *Files) scan() ([]*configs.File, configs.Problems) {
	names, err := configs.Names(f.path)
	if err != nil {
		return nil, configs.Problems{{Place: configs.Place{File: f.path}, Reason: "cannot be read: " + err.Error()}}
	}
	read := map[string]*configs.File{}
	var all []*configs.File
	for _, name := range names {
		file := f.read[name]
		if file == nil || file.Changed() {
			file = configs.ReadFile(name)
			if good := f.good[name]; good != nil && file.Blank() && !good.Empty() && len(file.Problems) == 0 {
				file.Refuse("the file is empty", "to remove its tenants, delete the file")
			}
		}
		read[name] = file
		all = append(all, file)
	}
	f.read = read
	return all, nil
}

// usable replaces faulty files by what they last held, until what is left has
// no fault. It reports false when that cannot be had.
func (f *Files) usable(all []*configs.File) ([]*configs.File, bool) {
	bad := map[string]bool{}
	for _, file := range all {
		bad[file.Path] = len(file.Problems.Errors()) > 0
	}
	present, anyBad := map[string]bool{}, false
	for _, file := range all {
		present[file.Path] = true
		anyBad = anyBad || bad[file.Path]
	}
	for {
		var use []*configs.File
		if anyBad {
			// While something is wrong no file counts as deleted: it may have
			// been renamed into the one that is wrong.
			for _, path := range slices.Sorted(maps.Keys(f.good)) {
				if !present[path] {
					use = append(use, f.good[path])
				}
			}
		}
		for _, file := range all {
			if bad[file.Path] {
				file = f.good[file.Path]
			}
			if file != nil {
				use = append(use, file)
			}
		}
		errs := configs.Join(use...).Problems.Errors()
		if len(errs) == 0 {
			return use, true
		}
		more := false
		for _, p := range errs {
			places := []string{p.File}
			if p.Also != nil {
				places = append(places, p.Also.File)
			}
			for _, name := range places {
				more = more || !bad[name]
				bad[name], anyBad = true, true
			}
		}
		if !more {
			return nil, false
		}
	}
}

func (f *Files) remember(use []*configs.File) {
	f.good = map[string]*configs.File{}
	for _, file := range use {
		f.good[file.Path] = file
	}
}

func (f *Files) tell(r Revision) {
	for _, p := range r.Problems {
		level := slog.LevelError
		if p.Warning {
			level = slog.LevelWarn
		}
		f.log.Log(context.Background(), level, "tenant document", "place", p.Place.String(), "reason", p.Reason, "hint", p.Hint)
	}
	f.log.Info("change", "revision", r.Revision, "result", string(r.Result), "source", r.Source,
		"changed", len(r.Changed), "removed", len(r.Removed), "refused", len(r.Refused), "took_ms", r.Took)
}
