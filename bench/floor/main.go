// Command floor is what the comparisons measure Gatehouse's distance from: a
// proxy on fasthttp that does nothing else, and a relay of bytes that does not
// even read HTTP.
//
//	floor fasthttp ADDR HOSTS    HOSTS is a file of lines "host backend"
//	floor relay ADDR BACKEND
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/valyala/fasthttp"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want fasthttp ADDR HOSTS or relay ADDR BACKEND, got %q", args)
	}
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	if args[0] == "relay" {
		return relay(ln, args[2])
	}
	hosts, err := readHosts(args[2])
	if err != nil {
		return err
	}
	return (&fasthttp.Server{
		NoDefaultServerHeader: true, NoDefaultContentType: true, NoDefaultDate: true, Handler: hosts.serve, MaxRequestBodySize: 16 << 20,
	}).Serve(ln)
}

type hosts map[string]*fasthttp.HostClient

func readHosts(file string) (hosts, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := hosts{}
	for s := bufio.NewScanner(f); s.Scan(); {
		host, backend, _ := strings.Cut(s.Text(), " ")
		h[host] = &fasthttp.HostClient{Addr: backend, MaxConns: 1024, DisablePathNormalizing: true, NoDefaultUserAgentHeader: true}
	}
	return h, nil
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
