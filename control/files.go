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
	read    map[string]*configs.File // every file as last read
	good    map[string]*configs.File // every file as last published
	checker configs.Checker
	// inputs are what is read, by every name that it is reached by, each with
	// the documents that it is part of.
	inputs map[string][]string
	// ways are the folders on the way there, and the links among them: what
	// their names stand for decides what is read. True: a link.
	ways map[string]bool
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
	hint := &hint{anything: true}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
			hint.anything = true
			settle.Reset(0)
		case e := <-watcher.Events:
			if !f.concerns(e.Name, hint) {
				continue
			}
			if due.IsZero() {
				due = time.Now().Add(patience)
			}
			settle.Reset(min(quiet, time.Until(due)))
		case err := <-watcher.Errors: // some were lost
			f.log.Warn("watching files", "path", f.path, "error", err)
			hint.anything = true
			settle.Reset(quiet)
		case <-settle.C:
			due = time.Time{}
			moved := f.load(hint)
			hint = newHint()
			if moved && f.watch(watcher) { // what changed there meanwhile was not told
				hint.anything = true
				settle.Reset(0)
			}
		}
	}
}

// hint is what may have changed since files were read last.
type hint struct {
	anything  bool
	documents map[string]bool // those that may, themselves or in a file that they name
}

func newHint() *hint { return &hint{documents: map[string]bool{}} }

// at reports whether a document may have changed.
func (h *hint) at(document string) bool { return h.anything || h.documents[document] }

// concerns reports whether a change of the named file can matter, and notes to
// which documents: it is one, a key file, or on the way to one. Others, logs
// among them, may live in the same folders.
func (f *Files) concerns(name string, h *hint) bool {
	name = filepath.Clean(name)
	if _, way := f.ways[name]; way {
		h.anything = true
		return true
	}
	documents := f.inputs[name]
	for _, d := range documents {
		h.documents[d] = true
	}
	return len(documents) > 0 || filepath.Dir(name) == filepath.Clean(f.path) && configs.IsDocument(name)
}

// watch adds the folders of every file that matters. Folders are watched, not
// files, because a file that is replaced is another file. It reports whether
// there are folders that were not watched before.
func (f *Files) watch(w *fsnotify.Watcher) (more bool) {
	before := w.WatchList()
	folders := map[string]bool{}
	if info, err := configs.Names(f.path); err != nil || len(info) != 1 || info[0] != f.path {
		folders[f.path] = true
	}
	folders[filepath.Dir(f.path)] = true
	for name := range f.inputs {
		folders[filepath.Dir(name)] = true
	}
	for name, link := range f.ways {
		if link {
			folders[filepath.Dir(name)] = true
		}
	}
	for folder := range folders {
		for !exists(folder) && filepath.Dir(folder) != folder {
			folder = filepath.Dir(folder) // it may be made there
		}
		// Again even when it is watched: a link may lead elsewhere now.
		if err := w.Add(folder); err != nil {
			f.log.Debug("folder not watched", "path", folder, "error", err)
			continue
		}
		more = more || !slices.Contains(before, folder)
	}
	return more
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Load reads what has changed and publishes it.
func (f *Files) Load() { f.load(&hint{anything: true}) }

// load is Load where only what h says may have changed. It reports whether
// what is read may be elsewhere since.
func (f *Files) load(h *hint) (moved bool) {
	began := time.Now()
	all, moved, problems := f.scan(h)
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
	return moved
}

// scan returns every file, read again where it may have changed, and whether
// one that is read, or the way to it, may be another than before.
func (f *Files) scan(h *hint) (all []*configs.File, moved bool, problems configs.Problems) {
	names, err := configs.Names(f.path)
	if err != nil {
		f.note()
		return nil, true, configs.Problems{{Place: configs.Place{File: f.path}, Reason: "cannot be read: " + err.Error()}}
	}
	read := make(map[string]*configs.File, len(names))
	all = make([]*configs.File, 0, len(names))
	moved = h.anything || len(names) != len(f.read)
	for _, name := range names {
		file := f.read[name]
		was := file
		if file == nil || h.at(name) && file.Changed() {
			file = configs.ReadAgain(name, file)
			if good := f.good[name]; good != nil && file.Blank() && !good.Empty() && len(file.Problems) == 0 {
				file.Refuse("the file is empty", "to remove its tenants, delete the file")
			}
		}
		read[name] = file
		all = append(all, file)
		moved = moved || was == nil || !slices.EqualFunc(was.Inputs, file.Inputs, func(a, b configs.Input) bool { return a.Path == b.Path })
	}
	f.read = read
	if moved {
		f.note()
	}
	return all, moved, nil
}

// note keeps at hand what is read, and the ways there.
func (f *Files) note() {
	f.inputs, f.ways = map[string][]string{}, map[string]bool{}
	if f.read[f.path] == nil { // a folder, or not there
		f.way(filepath.Clean(f.path))
	}
	for document, file := range f.read {
		for _, in := range file.Inputs {
			f.follow(filepath.Clean(in.Path), document)
		}
	}
}

// maxLinks ends what leads in circles.
const maxLinks = 40

// follow notes a file that a document is read from, and those that it is a
// link to.
func (f *Files) follow(name, document string) {
	for range maxLinks {
		if !slices.Contains(f.inputs[name], document) {
			f.inputs[name] = append(f.inputs[name], document)
		}
		f.way(filepath.Dir(name))
		to, err := os.Readlink(name)
		if err != nil {
			return // it is no link
		}
		name = besides(name, to)
	}
}

// way notes a folder, those that it is in, and those that they are links to.
func (f *Files) way(name string) {
	for {
		if _, known := f.ways[name]; known {
			return
		}
		f.ways[name] = false
		if to, err := os.Readlink(name); err == nil {
			f.ways[name] = true
			f.way(besides(name, to))
		}
		if filepath.Dir(name) == name {
			return
		}
		name = filepath.Dir(name)
	}
}

// besides is where a link leads.
func besides(link, to string) string {
	if filepath.IsAbs(to) {
		return filepath.Clean(to)
	}
	return filepath.Join(filepath.Dir(link), to)
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
