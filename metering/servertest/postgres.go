// Package servertest runs real servers for tests: each is the distribution's
// own program, started once for a test process in a folder of its own, on
// sockets that nothing else uses, and gone when the test process is, however
// that ends.
package servertest

import (
	"bufio"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Postgres returns the address of a fresh, empty database on a PostgreSQL
// server that the test process shares, with fsync on. The database is dropped
// when the test ends, whoever is still connected. Tests may call it in
// parallel.
func Postgres(t testing.TB) string {
	t.Helper()
	s, err := postgres()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	if err := s.run("createdb", "--host", s.dir, "--username", superuser, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.run("dropdb", "--force", "--host", s.dir, "--username", superuser, name); err != nil {
			t.Error(err)
		}
	})
	return "postgres://" + superuser + "@/" + name + "?host=" + url.QueryEscape(s.dir)
}

const superuser = "gatehouse"

// postgres starts the server at the first call.
var postgres = sync.OnceValues(startPostgres)

type postgresServer struct {
	bin string // holds initdb, pg_ctl, createdb
	dir string // holds the data, the log and the socket; the server's user owns it
	as  *syscall.Credential

	watcher   *exec.Cmd
	lifeline  *os.File     // its closing, by the end of this process at the latest, ends the server
	databases atomic.Int64 // made so far; their names' numbers
}

// watch starts the server, says so, waits for its standard input to end, and
// leaves nothing behind. That input is a pipe from the test process, which a
// kill -9 closes too. The socket is the folder's own, so that no port is taken.
const watch = `
trap '' INT TERM HUP
pg_ctl start --wait --silent --pgdata "$1/data" --log "$1/log" \
  --options "-c listen_addresses= -c unix_socket_directories=$1 -c max_connections=200" >&2 && echo ready
cat >/dev/null
pg_ctl stop --silent --mode immediate --pgdata "$1/data" >/dev/null 2>&1
cd / && rm -rf "$1"
`

func startPostgres() (*postgresServer, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	s := &postgresServer{bin: bin}
	if s.dir, err = os.MkdirTemp("", "postgres-"); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if s.as, err = unprivileged(); err != nil {
			return nil, err
		}
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return nil, err
		}
	}
	if err := s.run("initdb", "--no-sync", "--auth", "trust", "--username", superuser,
		"--encoding", "UTF8", "--locale", "C", "--pgdata", filepath.Join(s.dir, "data")); err != nil {
		os.RemoveAll(s.dir)
		return nil, err
	}
	return s, s.start()
}

func (s *postgresServer) start() error {
	read, lifeline, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	s.lifeline = lifeline
	s.watcher = s.command("/bin/sh", "-c", watch, "watch", s.dir)
	s.watcher.Stdin = read
	s.watcher.SysProcAttr.Setpgid = true // an interrupt from the terminal is for the tests
	stdout, err := s.watcher.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.watcher.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("start PostgreSQL: %w\n%s", err, log)
	}
	return nil
}

func (s *postgresServer) run(program string, args ...string) error {
	out, err := s.command(filepath.Join(s.bin, program), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

func (s *postgresServer) command(program string, args ...string) *exec.Cmd {
	c := exec.Command(program, args...)
	c.Dir = s.dir
	c.Env = []string{"PATH=" + s.bin + ":/usr/bin:/bin", "LC_ALL=C"} // no PGHOST of the developer's
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return c
}

// postgresPrograms returns the folder of the newest installed release. Debian
// keeps them out of the PATH.
func postgresPrograms() (string, error) {
	best, newest := "", -1
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	for _, name := range found {
		release, err := strconv.Atoi(strings.Split(name, "/")[4])
		if err == nil && release > newest {
			best, newest = filepath.Dir(name), release
		}
	}
	if best != "" {
		return best, nil
	}
	if name, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(name), nil
	}
	return "", errors.New("PostgreSQL is missing: apt-get install -y --no-install-recommends postgresql")
}

// unprivileged returns the user that the server runs as when the tests are
// root's.
func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
