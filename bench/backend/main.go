// Command backend is the upstream of the benchmarks: it answers every request
// on a kept connection, as cheaply as it can, so that what is measured is the
// proxy before it. The answer is 1 KiB of JSON, or 1 MiB for GET /1m. Bodies of
// requests are read and dropped.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
	}
}

func run(args []string) error {
	n := 1
	addr, err := netip.ParseAddrPort(args[0])
	if err == nil && len(args) > 1 {
		n, err = strconv.Atoi(args[1])
	}
	if err != nil {
		return err
	}
	body := `{"items":["` + strings.Repeat("x", 1024-15) + `"]}` + "\n"
	a := answers{json: answer("application/json", body), long: answer("application/octet-stream", strings.Repeat("x", 1<<20))}
	var all sync.WaitGroup
	for i := range n {
		ln, err := net.Listen("tcp", netip.AddrPortFrom(addr.Addr(), addr.Port()+uint16(i)).String())
		if err != nil {
			return err
		}
		all.Go(func() { a.accept(ln) })
	}
	all.Wait()
	return nil
}

func (a *answers) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go a.serve(c)
	}
}

type answers struct{ json, long []byte }

func answer(kind, body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(body), body)
}

// serve answers each request, whose head comes in one segment.
func (a *answers) serve(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		out := a.json
		if bytes.HasPrefix(buf[:n], []byte("GET /1m")) {
			out = a.long
		}
		if buf[0] == 'P' {
			if _, err := io.CopyN(io.Discard, c, missing(buf[:n])); err != nil {
				return
			}
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// missing returns how much of the body is still to come.
func missing(got []byte) int64 {
	head, body, _ := bytes.Cut(got, []byte("\r\n\r\n"))
	_, length, _ := bytes.Cut(head, []byte("Content-Length: "))
	length, _, _ = bytes.Cut(length, []byte("\r"))
	n, _ := strconv.ParseInt(string(length), 10, 64)
	return max(0, n-int64(len(body)))
}
