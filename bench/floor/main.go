// Command floor is what the comparisons measure Gatehouse's distance from: a
// proxy on fasthttp that does nothing else, and a relay of bytes that does not
// even read HTTP.
//
//	floor fasthttp ADDR HOSTS          HOSTS is a file of lines "host backend"
//	floor fasthttp-quiet ADDR HOSTS    which looks, before each request, whether
//	                                   its backend's connection is quiet
//	floor relay ADDR BACKEND
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/valyala/fasthttp"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want fasthttp ADDR HOSTS, fasthttp-quiet ADDR HOSTS or relay ADDR BACKEND, got %q", args)
	}
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	if args[0] == "relay" {
		return relay(ln, args[2])
	}
	dial := fasthttp.Dial
	if args[0] == "fasthttp-quiet" {
		dial = dialQuiet
	}
	hosts, err := readHosts(args[2], dial)
	if err != nil {
		return err
	}
	return (&fasthttp.Server{
		NoDefaultServerHeader: true, NoDefaultContentType: true, NoDefaultDate: true, Handler: hosts.serve, MaxRequestBodySize: 16 << 20,
	}).Serve(ln)
}

type hosts map[string]*fasthttp.HostClient

func readHosts(file string, dial fasthttp.DialFunc) (hosts, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := hosts{}
	for s := bufio.NewScanner(f); s.Scan(); {
		host, backend, _ := strings.Cut(s.Text(), " ")
		h[host] = &fasthttp.HostClient{Addr: backend, Dial: dial, MaxConns: 1024, DisablePathNormalizing: true, NoDefaultUserAgentHeader: true}
	}
	return h, nil
}

// quiet is a connection that is not written to once the other side has ended
// it, or has sent what nobody asked for.
type quiet struct {
	net.Conn
	raw  syscall.RawConn
	look func(fd uintptr)
	ok   bool
}

func dialQuiet(addr string) (net.Conn, error) {
	c, err := fasthttp.Dial(addr)
	if err != nil {
		return nil, err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	q := &quiet{Conn: c, raw: raw}
	one := make([]byte, 1)
	q.look = func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), one, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		q.ok = err == syscall.EAGAIN
	}
	return q, nil
}

// Write writes a request: the client flushes once for each.
func (q *quiet) Write(b []byte) (int, error) {
	if err := q.raw.Control(q.look); err != nil {
		return 0, err
	}
	if !q.ok {
		return 0, net.ErrClosed
	}
	return q.Conn.Write(b)
}

func (h hosts) serve(ctx *fasthttp.RequestCtx) {
	c := h[string(ctx.Host())]
	if c == nil {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	}
	ctx.Request.UseHostHeader = true
	if err := c.Do(&ctx.Request, &ctx.Response); err != nil {
		ctx.Error("bad gateway", fasthttp.StatusBadGateway)
	}
}

// relay copies bytes between each client and a connection of its own; between
// two sockets the kernel does so by splice.
func relay(ln net.Listener, backend string) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			b, err := net.Dial("tcp", backend)
			if err != nil {
				return
			}
			defer b.Close()
			go func() {
				_, _ = io.Copy(b, c) // whoever ends it ends both
				_ = b.Close()
			}()
			_, _ = io.Copy(c, b)
		}()
	}
}
