package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/proxy/proxytest"
)

// tool returns the path of a program that is not ours, built where it is not
// there yet.
func tool(t *testing.T, pkg, version string) string {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join("..", ".cache", "tools", strings.ReplaceAll(pkg, "/", "_")+"@"+version))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, filepath.Base(pkg))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.Command("go", "install", pkg+"@"+version)
	build.Dir = t.TempDir() // not within our module
	build.Env = append(os.Environ(), "GOBIN="+folder, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// run runs a tool to its end, within a time.
func run(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	limit := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	err := cmd.Run()
	return out.String(), err
}

// Every case of h2spec passes, the strict ones too.
func TestH2Spec(t *testing.T) {
	h := secure(t, "tenants:"+one("a", "localhost", "a.app"), map[string][]string{"a": {"localhost"}})
	_, port, err := net.SplitHostPort(h.addr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := run(t, tool(t, "github.com/summerwind/h2spec/cmd/h2spec", "v2.2.1+incompatible"),
		"-t", "-k", "--strict", "-o", "5", "-h", "localhost", "-p", port)
	_, failures, failed := strings.Cut(out, "Failures:")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	t.Log(lines[len(lines)-1])
	if err != nil || failed || !strings.Contains(out, " 0 failed") {
		t.Errorf("%v\n%s", err, failures)
	}
}

// The interoperability tests of gRPC pass through the gateway: unary and
// streaming calls, full duplex, cancellation, deadlines, metadata, statuses.
func TestGRPCInterop(t *testing.T) {
	const version = "v1.85.0"
	client := tool(t, "google.golang.org/grpc/interop/client", version)
	backend := startInterop(t, tool(t, "google.golang.org/grpc/interop/server", version))
	h := proxytest.New(t, fmt.Sprintf(`tenants:
  - id: grpc
    domain: localhost
    backends: [{id: app, protocol: h2, endpoints: [{url: "http://%s"}]}]
    routes: [{id: all, match: {path: /}, auth: none, backend: app}]
`, backend), proxytest.Options{TCP: true})
	_, port, err := net.SplitHostPort(listen(t, h.Gateway.Serve))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
		"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
		"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := run(t, client, "--server_host", "localhost", "--server_port", port, "--test_case", name); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// startInterop starts the server of the interoperability tests.
func startInterop(t *testing.T, path string) (addr string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = free.Addr().String()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close() // the server opens it again
	cmd := exec.Command(path, "--port", port)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}
