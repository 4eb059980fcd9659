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
	// names are those whose change can matter: of what is read, and, true, of
	// the folders and links on the way there. folders are to be watched, root is
	// where the documents are, where there is more than one. All are names that
	// hold no link but at their end.
	names, folders map[string]bool
	root           string
	moved          bool // a link, or a folder, on the way may lead elsewhere now
	watched        map[string]os.FileInfo
}

// NewFiles returns a feed of path, a file or a folder.
func NewFiles(path string, book *Book, log *slog.Logger) *Files {
	return &Files{
		path: filepath.Clean(path), book: book, log: log, read: map[string]*configs.File{}, good: map[string]*configs.File{},
		moved: true, watched: map[string]os.FileInfo{},
	}
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
	f.note()
	f.watch(watcher)
	settle := time.NewTimer(0) // what changed between Load and here
	due := time.Now()          // when what has been seen is read at the latest
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reload:
			f.moved = true
			settle.Reset(0)
		case e := <-watcher.Events:
			if !f.concerns(e.Name, e.Has(fsnotify.Create|fsnotify.Remove|fsnotify.Rename)) {
				continue
			}
			if due.IsZero() {
				due = time.Now().Add(patience)
			}
			settle.Reset(min(quiet, time.Until(due)))
		case err := <-watcher.Errors:
			f.log.Warn("watching files", "path", f.path, "error", err)
			f.moved = true // some were lost
			settle.Reset(quiet)
		case <-settle.C:
			due = time.Time{}
			f.watch(watcher) // a folder may be another by now, of the same name
			f.Load()
			if f.watch(watcher) { // what changed there before was not told
				f.moved = true
				settle.Reset(0)
			}
		}
	}
}

// concerns reports whether a change of the named file can matter: it is a
// document, a key file, or on the way to one. Others, logs among them, may live
// in the same folders. replaced says that the name stands for another file now,
// which may be a link.
func (f *Files) concerns(name string, replaced bool) bool {
	name = filepath.Clean(name)
	way, known := f.names[name]
	f.moved = f.moved || way || known && replaced
	return known || filepath.Dir(name) == f.root && configs.IsDocument(name)
}

// watch watches the folders of all that matters. Folders are watched, not
// files, because a file that is replaced is another file. It reports whether
// one of them was not watched before.
func (f *Files) watch(w *fsnotify.Watcher) (more bool) {
	wanted := make(map[string]bool, len(f.folders))
	for folder := range f.folders {
		for !exists(folder) && filepath.Dir(folder) != folder {
			folder = filepath.Dir(folder) // it may be made there
		}
		wanted[folder] = true
	}
	for _, name := range w.WatchList() { // a folder that was moved is known by its old name until then
		if !wanted[name] {
			_ = w.Remove(name) // it may have gone by itself
		}
	}
	now := make(map[string]os.FileInfo, len(wanted))
	for folder := range wanted {
		// Again even when it is watched: it may have been made anew.
		if err := w.Add(folder); err != nil {
			f.log.Debug("folder not watched", "path", folder, "error", err)
			continue
		}
		info, err := os.Stat(folder)
		if err != nil {
			continue
		}
		now[folder] = info
		more = more || f.watched[folder] == nil || !os.SameFile(f.watched[folder], info)
	}
	f.watched = now
	return more
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
		f.note()
		return nil, configs.Problems{{Place: configs.Place{File: f.path}, Reason: "cannot be read: " + err.Error()}}
	}
	read := make(map[string]*configs.File, len(names))
	all := make([]*configs.File, 0, len(names))
	same := len(names) == len(f.read)
	disk := configs.NewDisk()
	for _, name := range names {
		file := f.read[name]
		was := file
		if file == nil || file.Changed(disk) {
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
	if !same || f.moved {
		f.note()
	}
	return all, nil
}

// note keeps at hand what is read, and the ways there.
func (f *Files) note() {
	f.names, f.folders, f.moved = map[string]bool{}, map[string]bool{}, false
	ways := &ways{f: f, real: map[string]string{}}
	if root := ways.follow(f.path); f.read[f.path] == nil { // a folder, or not there
		f.root = root
		f.folders[root], f.names[root] = true, true
	}
	followed := map[string]bool{} // many documents may name one file
	for _, file := range f.read {
		for _, in := range file.Inputs {
			if !followed[in.Path] {
				followed[in.Path] = true
				ways.follow(in.Path)
			}
		}
	}
}

// ways notes what paths lead through.
type ways struct {
	f    *Files
	real map[string]string // of folders that were come by
}

// maxLinks ends what leads in circles.
const maxLinks = 40

// follow notes what a path leads through, and returns where it ends. A link is
// resolved where it lies, as the system does.
func (w *ways) follow(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	dir, name := filepath.Split(path)
	at := filepath.Join(w.folder(dir), name)
	for range maxLinks {
		w.f.folders[filepath.Dir(at)] = true
		to, err := os.Readlink(at)
		if err != nil { // it is no link
			if _, known := w.f.names[at]; !known {
				w.f.names[at] = false
			}
			return at
		}
		w.f.names[at] = true
		if !filepath.IsAbs(to) {
			to = filepath.Dir(at) + string(filepath.Separator) + to
		}
		dir, name := filepath.Split(to)
		at = filepath.Join(w.folder(dir), name)
	}
	return at
}

// folder is where a folder's path leads, with all on the way noted.
func (w *ways) folder(path string) string {
	path = strings.TrimRight(path, string(filepath.Separator))
	if real, known := w.real[path]; known {
		return real
	}
	if path == filepath.VolumeName(path) { // the root, of a volume where there are such
		return path + string(filepath.Separator)
	}
	w.real[path] = path // of a circle
	dir, name := filepath.Split(path)
	at := filepath.Join(w.folder(dir), name)
	to, err := os.Readlink(at)
	w.f.names[at] = true
	if err == nil {
		w.f.folders[filepath.Dir(at)] = true
		if !filepath.IsAbs(to) {
			to = filepath.Dir(at) + string(filepath.Separator) + to
		}
		at = w.folder(to)
	}
	at = filepath.Clean(at)
	w.real[path] = at
	return at
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
