// Package database opens the databases that the product keeps things in: a
// SQLite file or PostgreSQL, with the tables of one owner brought up to date.
// Several owners may share a database: each has tables and a list of versions
// of its own.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Engine is what runs the SQL.
type Engine string

// The engines.
const (
	SQLite   Engine = "sqlite"
	Postgres Engine = "postgres"
)

// Config says what is opened and how.
type Config struct {
	// Address is a URL postgres://… or the path of a SQLite file, whose folder
	// exists. The file is made, and kept, for its owner alone.
	Address string
	// Migrations has a folder of goose's files for each engine, by its name.
	Migrations fs.FS
	// Versions is the table that says which of them were made, and Lock the
	// advisory lock of PostgreSQL that one process at a time makes them under.
	Versions string
	Lock     int64
	// Lazy lets a crash of the machine, not of the process, cost the last
	// commits to a file. Otherwise what is committed is on the disk, on both
	// engines, whatever the server's default.
	Lazy bool
	// Readers are the connections to a file that only read; one writes.
	// Connections are those to PostgreSQL.
	Readers, Connections int
	// WriteCache and ReadCache are the caches of pages of a connection to a
	// file, in KiB.
	WriteCache, ReadCache int
	// Parameters are those of a session of PostgreSQL.
	Parameters map[string]string
}

// DB is an open database.
type DB struct {
	Engine Engine
	// Read and Write are the same pool on PostgreSQL. On SQLite Write is one
	// connection, whose transactions wait for their turn when they begin.
	Read, Write *sql.DB
	// Server is how connections to PostgreSQL are made; nil on SQLite.
	Server *pgx.ConnConfig
}

// IsPostgres reports whether an address is one of PostgreSQL.
func IsPostgres(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// idle is how long a connection to PostgreSQL is kept that nobody uses.
const idle = time.Minute

// Open opens a database and makes its tables or brings them up to date. One
// whose tables are of a later release is ErrNewer, and is not written to. The
// error does not name the address, which may hold a password. Close ends what
// is open.
func Open(ctx context.Context, c Config) (*DB, error) {
	var d *DB
	var err error
	if IsPostgres(c.Address) {
		d, err = openPostgres(&c)
	} else {
		d, err = openSQLite(&c)
	}
	if err != nil {
		return nil, err
	}
	if err := d.migrate(ctx, &c); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate: %w", err), d.Close())
	}
	return d, nil
}

// Close closes the connections, once what runs on them has ended.
func (d *DB) Close() error {
	var err error
	if d.Read != d.Write {
		err = d.Read.Close()
	}
	return errors.Join(err, d.Write.Close()) // the last to close folds the log of a file into it
}

func openPostgres(c *Config) (*DB, error) {
	server, err := pgx.ParseConfig(c.Address)
	if err != nil {
		return nil, err
	}
	for name, value := range c.Parameters {
		server.RuntimeParams[name] = value
	}
	if !c.Lazy {
		server.RuntimeParams["synchronous_commit"] = "on"
	}
	pool := stdlib.OpenDB(*server)
	pool.SetMaxOpenConns(c.Connections)
	pool.SetMaxIdleConns((c.Connections + 1) / 2)
	pool.SetConnMaxIdleTime(idle)
	return &DB{Engine: Postgres, Read: pool, Write: pool, Server: server}, nil
}
