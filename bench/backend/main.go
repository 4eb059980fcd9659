// Command backend is the upstream of the benchmarks: it answers every request
// on a kept connection with the same 1 KiB of JSON, as cheaply as it can, so
// that what is measured is the proxy before it.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	ln, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		return
	}
	body := `{"items":["` + strings.Repeat("x", 1024-15) + `"]}` + "\n"
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go serve(c, answer)
	}
}

// serve answers each read: a request of the benchmark comes in one segment.
func serve(c net.Conn, answer []byte) {
	defer c.Close()
	buf := make([]byte, 16<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
