package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// ClickHouse returns the address of a fresh, empty database on a ClickHouse
// server that the test process shares: http://127.0.0.1:port/?database=name.
// It is Debian's server, unpacked below .cache where it is missing, which
// takes apt and the network once. The database is dropped when the test ends.
func ClickHouse(t testing.TB) string {
	t.Helper()
	s, err := clickhouse()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	if err := s.run("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.run("DROP DATABASE " + name); err != nil {
			t.Error(err)
		}
		s.client.CloseIdleConnections()
	})
	return s.url + "?database=" + name
}

// clickhouse starts the server at the first call.
var clickhouse = sync.OnceValues(startClickHouse)

type clickhouseServer struct {
	url    string
	client http.Client

	lifeline  *os.File     // its closing, by the end of this process at the latest, ends the server
	databases atomic.Int64 // made so far; their names' numbers
}

func (s *clickhouseServer) run(statement string) error {
	answer, err := s.client.Post(s.url, "text/plain", strings.NewReader(statement))
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s %w", statement, answer.Status, text, err)
	}
	return nil
}

const clickhouseConfig = `<yandex>
<logger><level>warning</level><console>1</console></logger>
<http_port>%[2]d</http_port><listen_host>127.0.0.1</listen_host>
<path>%[1]s/data/</path><tmp_path>%[1]s/tmp/</tmp_path>
<users_config>%[1]s/config.xml</users_config><default_profile>default</default_profile>
<mark_cache_size>5368709</mark_cache_size>
<profiles><default><max_memory_usage>1000000000</max_memory_usage><max_threads>2</max_threads></default></profiles>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users>
<quotas><default></default></quotas>
</yandex>`

// watchClickHouse starts the server, waits for its standard input to end, and
// leaves nothing behind. That input is a pipe from the test process, which a
// kill -9 closes too.
const watchClickHouse = `
trap '' INT TERM HUP
"$2" --config-file="$1/config.xml" >"$1/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -9 $server; wait $server
cd / && rm -rf "$1"
`

func startClickHouse() (*clickhouseServer, error) {
	root, err := clickhousePrograms()
	if err != nil {
		return nil, fmt.Errorf("unpack ClickHouse: %w", err)
	}
	dir, err := os.MkdirTemp("", "clickhouse-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.xml"), fmt.Appendf(nil, clickhouseConfig, dir, port), 0o600); err != nil {
		return nil, err
	}
	read, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	watcher := exec.Command("/bin/sh", "-c", watchClickHouse, "watch", dir, filepath.Join(root, "usr/sbin/clickhouse-server"))
	watcher.Dir = dir
	watcher.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "LD_LIBRARY_PATH=" + libraries(root)}
	watcher.Stdin = read
	watcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for the tests
	if err := watcher.Start(); err != nil {
		return nil, err
	}
	s := &clickhouseServer{url: fmt.Sprintf("http://127.0.0.1:%d/", port), lifeline: lifeline}
	if err := s.wait(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		lifeline.Close()
		return nil, fmt.Errorf("start ClickHouse: %w\n%s", err, log)
	}
	return s, nil
}

// wait returns once the server answers.
func (s *clickhouseServer) wait() error {
	const patience = 60 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := s.run("SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freePort returns a port that was free a moment ago: the server cannot be
// handed a listening socket.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func libraries(root string) string {
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		dirs = append(dirs, found...)
	}
	return strings.Join(dirs, ":")
}

// clickhousePrograms returns the folder that Debian's packages are unpacked
// in, unpacking them where they are not: without root, and so without
// installing them. One test process does so at a time.
func clickhousePrograms() (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), ".cache", "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	turn, err := os.OpenFile(filepath.Join(tools, "clickhouse.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer turn.Close()
	if err := syscall.Flock(int(turn.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	root := filepath.Join(tools, "clickhouse")
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		return root, err
	}
	temp, err := os.MkdirTemp(tools, "clickhouse-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := unpack(temp); err != nil {
		return "", err
	}
	return root, os.Rename(filepath.Join(temp, "root"), root)
}

// unpack downloads the server and the libraries it lacks into dir, and
// unpacks them in dir/root.
func unpack(dir string) error {
	list, err := output(dir, "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
		"--no-breaks", "--no-replaces", "--no-enhances", "clickhouse-server")
	if err != nil {
		return err
	}
	download := []string{"-o", "APT::Sandbox::User=", "download", "clickhouse-server", "clickhouse-common"}
	for name := range strings.Lines(list) {
		name = strings.TrimRight(name, "\n")
		if !strings.HasPrefix(name, "lib") || slices.Contains(download, name) {
			continue // of the indented lines and of names in brackets none begins so
		}
		if status, err := output(dir, "dpkg-query", "-W", "-f=${Status}", name); err != nil || !strings.HasSuffix(status, " installed") {
			download = append(download, name)
		}
	}
	if _, err := output(dir, "apt-get", download...); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, p := range packages {
		if _, err := output(dir, "dpkg", "-x", p, "root"); err != nil {
			return err
		}
	}
	return nil
}

func output(dir, program string, args ...string) (string, error) {
	c := exec.Command(program, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s(is the list of packages there? apt-get update)", program, args[0], err, stderr.String())
	}
	return string(out), nil
}
