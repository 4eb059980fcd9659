package database

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// busy is how long one process waits for another that writes to the file.
const busy = 10 * time.Second

func openSQLite(c *Config) (*DB, error) {
	if c.Address == "" {
		return nil, errors.New("no file and no address is given")
	}
	path, err := filepath.Abs(c.Address)
	if err != nil {
		return nil, err
	}
	if err := makePrivate(path); err != nil {
		return nil, err
	}
	synchronous := "FULL" // of a log alone it would sync at checkpoints only
	if c.Lazy {
		synchronous = "NORMAL"
	}
	open := func(connections int, more string) (*sql.DB, error) {
		u := url.URL{Scheme: "file", Path: path, RawQuery: fmt.Sprintf(
			"_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(%s)&_pragma=temp_store(MEMORY)&%s", busy.Milliseconds(), synchronous, more)}
		connector, err := sqlite.NewConnector(u.String())
		if err != nil {
			return nil, err
		}
		pool := sql.OpenDB(connector)
		pool.SetMaxOpenConns(connections)
		pool.SetMaxIdleConns(connections)
		return pool, nil
	}
	write, err := open(1, fmt.Sprintf("_txlock=immediate&_pragma=cache_size(-%d)", c.WriteCache))
	if err != nil {
		return nil, err
	}
	read, err := open(c.Readers, fmt.Sprintf("_pragma=query_only(1)&_pragma=cache_size(-%d)", c.ReadCache))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetConnMaxIdleTime(idle) // each has its cache
	return &DB{Engine: SQLite, Read: read, Write: write}, nil
}

// making has files made by one goroutine at a time: until one has closed what
// it made, no other opens it.
var making sync.Mutex

// makePrivate makes the file, for its owner alone, before SQLite does: the log
// beside it and the index of that get its permissions. What an earlier release
// left open to others is closed. The name of a new file is on the disk as what
// will be in it.
//
// A file that is there is not opened: to close it would end all locks that this
// process has on it, and another could then take its log away.
func makePrivate(path string) error {
	making.Lock()
	defer making.Unlock()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && name != path:
			continue
		case err != nil:
			return err
		case info.Mode().Perm()&0o077 == 0:
			continue
		}
		// The file of another user is that user's to close.
		if err := os.Chmod(name, info.Mode().Perm()&0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// IsFull reports whether err says that the disk of the database is full.
func IsFull(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == sqlite3.SQLITE_FULL
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "53100"
}
