package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	read    map[string]*configs.File // every file as last read
	good    map[string]*configs.File // every file as last published
	checker configs.Checker
	inputs  map[string]bool // what is read, and the folders on the way there
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
// may live in the same folders.
func (f *Files) concerns(name string) bool {
	name = filepath.Clean(name)
	root := filepath.Clean(f.path)
	if name == root || strings.HasPrefix(root, name+string(filepath.Separator)) || filepath.Dir(name) == root && configs.IsDocument(name) {
		return true
	}
	return f.inputs[name]
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Load reads what has changed and publishes it.
func (f *Files) Load() {
	began := time.Now()
	all, problems := f.scan()
	set := f.checker.Check(all...)
	problems = append(problems, set.Problems...)
	use, usable := set, true
	if len(problems.Errors()) > 0 {
		use, usable = f.usable(all)
	}
	if len(problems.Errors()) > 0 && usable && len(use.Files) == 0 || len(all) == 0 && len(f.good) > 0 && len(problems) > 0 {
		usable = false
	}
	c := Change{Source: f.path, Problems: problems, Began: began, Keep: !usable}
	if usable {
		c.Locate = use.Locate
		for _, file := range use.Files {
			c.Parts = append(c.Parts, &file.Document)
		}
	}
	r, news := f.book.Publish(c)
	if usable {
		f.remember(use.Files)
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
	read := make(map[string]*configs.File, len(names))
	all := make([]*configs.File, 0, len(names))
	same := len(names) == len(f.read)
	for _, name := range names {
		file := f.read[name]
		was := file
		if file == nil || file.Changed() {
			file = configs.ReadAgain(name, file)
			if good := f.good[name]; good != nil && file.Blank() && !good.Empty() && len(file.Problems) == 0 {
				file.Refuse("the file is empty", "to remove its tenants, delete the file")
			}
		}
		read[name] = file
		all = append(all, file)
		same = same && file == was
	}
	f.read = read
	if !same {
		f.note()
	}
	return all, nil
}

// note keeps the inputs of every file at hand.
func (f *Files) note() {
	f.inputs = map[string]bool{}
	for _, file := range f.read {
		for _, in := range file.Inputs {
			for name := filepath.Clean(in.Path); !f.inputs[name]; name = filepath.Dir(name) {
				f.inputs[name] = true
			}
		}
	}
}

// usable replaces faulty files by what they last held, until what is left has
// no fault. It reports false when that cannot be had.
func (f *Files) usable(all []*configs.File) (*configs.Checked, bool) {
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
		set := f.checker.Check(use...)
		errs := set.Problems.Errors()
		if len(errs) == 0 {
			return set, true
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
