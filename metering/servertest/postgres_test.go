package servertest

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// child makes this test binary a process that starts a server, says where,
// and waits to be killed.
const child = "SERVERTEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	s, err := postgres()
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString(s.dir + "\n")
	select {}
}

func psql(t *testing.T, dsn, query string) string {
	t.Helper()
	s, err := postgres()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.command(s.bin+"/psql", "-XAt", dsn, "-c", query).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestPostgres(t *testing.T) {
	one, two := Postgres(t), Postgres(t)
	psql(t, one, `create table here (x int)`)
	for _, c := range []struct{ dsn, query, want string }{
		{one, `select count(*) from pg_tables where tablename = 'here'`, "1"},
		{two, `select count(*) from pg_tables where tablename = 'here'`, "0"},
		{two, `show fsync`, "on"},
		{two, `show synchronous_commit`, "on"},
		{two, `show listen_addresses`, ""},
	} {
		if got := psql(t, c.dsn, c.query); got != c.want {
			t.Errorf("%s: %q, want %q", c.query, got, c.want)
		}
	}
}

// TestKilled: a test process that is killed leaves neither server nor folder.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), child+"=1")
	c.Stderr = os.Stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(line)
	pid, err := os.ReadFile(dir + "/data/postmaster.pid")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait() //nolint:errcheck // killed
	process, _, _ := strings.Cut(string(pid), "\n")
	deadline := time.After(20 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		_, folder := os.Stat(dir)
		_, server := os.Stat("/proc/" + process)
		if errors.Is(folder, fs.ErrNotExist) && errors.Is(server, fs.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("server %s or folder %s is still there", process, dir)
		}
	}
}
