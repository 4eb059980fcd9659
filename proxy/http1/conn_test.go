package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/proxy/ingress"
)

func config() *Config {
	return &Config{HeaderBytes: 16 << 10, Header: 10 * time.Second, Idle: time.Minute}
}

// pair is a connection in memory and its server's side.
func pair(cfg *Config) (client net.Conn, c *Conn) {
	client, server := net.Pipe()
	return client, NewConn(server, cfg)
}

// served reads requests until the connection ends or must be closed, and says
// what each was.
func served(c *Conn) string {
	var b strings.Builder
	for c.Await() == nil {
		var r ingress.Request
		head, err := c.Head()
		if err == nil {
			err = r.ParseHead(head)
		}
		if err != nil {
			fmt.Fprintf(&b, "%s\n", reason(err))
			break
		}
		c.Expect(&r)
		body, err := io.ReadAll(c)
		fmt.Fprintf(&b, "%s %s %q", r.Method, r.Path, body)
		for _, f := range c.Trailer() {
			fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
		}
		if err != nil {
			fmt.Fprintf(&b, " %s", reason(err))
		}
		b.WriteByte('\n')
		if !c.Done() {
			break
		}
	}
	return b.String()
}

func reason(err error) string {
	if e, ok := errors.AsType[*gatehouse.Error](err); ok {
		return fmt.Sprint(gatehouse.Problems[e.Code].Status, " ", e.Message)
	}
	if errors.Is(err, io.ErrClosedPipe) { // how a pipe says it
		err = io.ErrUnexpectedEOF
	}
	return err.Error()
}

// Bytes of a connection, whole and in every cut, and the requests in them.
func TestRequests(t *testing.T) {
	f := func(name, sent, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{len(sent), 1, 7} {
				client, c := pair(config())
				go func() {
					for part := range slicesOf([]byte(sent), step) {
						if _, err := client.Write(part); err != nil {
							break
						}
					}
					_ = client.Close()
				}()
				got := served(c)
				_ = c.nc.Close()
				c.Close()
				if got != want {
					t.Errorf("in steps of %d:\n%swant\n%s", step, got, want)
				}
			}
		})
	}
	const get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
	post := func(fields, body string) string {
		return "POST /p HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n\r\n" + body
	}
	chunked := func(body string) string { return post("Transfer-Encoding: chunked", body) }

	f("one", get, "GET /a \"\"\n")
	f("pipelined", get+get+post("Content-Length: 3", "abc")+get, "GET /a \"\"\nGET /a \"\"\nPOST /p \"abc\"\nGET /a \"\"\n")
	f("empty line in front", "\r\n"+get, "GET /a \"\"\n")
	f("two empty lines in front", "\r\n\r\n"+get, "400 no request begins with this byte\n")
	f("a body is not a request", post("Content-Length: 28", get)+get, "POST /p \"GET /a HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n\"\nGET /a \"\"\n")
	f("bare LF", "GET /a HTTP/1.1\nHost: h\n\n", "400 a line ends in LF without CR\n")
	f("broken off", "GET /a HTTP/1.1\r\nHo", "400 the request broke off\n")
	f("head too large", "GET /a HTTP/1.1\r\nHost: h\r\nA: "+strings.Repeat("a", 16<<10)+"\r\n\r\n", "431 the request head is larger than this gateway takes\n")
	f("head of 15 KiB", "GET /a HTTP/1.1\r\nHost: h\r\nA: "+strings.Repeat("a", 15<<10)+"\r\n\r\n"+get, "GET /a \"\"\nGET /a \"\"\n")
	f("body broken off", post("Content-Length: 9", "abc"), "POST /p \"abc\" unexpected EOF\n")

	f("chunks", chunked("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")+get, "POST /p \"abcde\"\nGET /a \"\"\n")
	f("trailers", chunked("1\r\na\r\n0\r\nX: y\r\nZ:  w \r\n\r\n")+get, "POST /p \"a\" X=y Z=w\nGET /a \"\"\n")
	f("trailers that may not be", chunked("0\r\nContent-Length: 5\r\nHost: evil\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n")+get, "POST /p \"\" X=y\nGET /a \"\"\n")
	f("upper case size", chunked("A\r\n0123456789\r\n0\r\n\r\n"), "POST /p \"0123456789\"\n")
	f("chunk broken off", chunked("5\r\nab"), "POST /p \"ab\" unexpected EOF\n")
	f("last chunk missing", chunked("2\r\nab\r\n"), "POST /p \"ab\" unexpected EOF\n")
	for _, size := range []string{"", " 1", "1 ", "+1", "-1", "0x1", "1_0", "g", "1\t", "1;a\x00", "10000000000000000", "ffffffffffffffff", ";a", "1 ;a"} {
		f("size "+size, chunked(size+"\r\na\r\n0\r\n\r\n")+get, "POST /p \"\" 400 "+map[bool]string{true: "control character in a chunk extension", false: "malformed chunk size"}[strings.Contains(size, "\x00")]+"\n")
	}
	for _, extension := range []string{"", " ", "a[=b", "a=", `a="b`, `a="b\"`, "a=b c", "a;", "a ", "a=b ", `a="b"c`, "=b", "a==b"} {
		f("extension "+extension, chunked("1;"+extension+"\r\na\r\n0\r\n\r\n")+get, "POST /p \"\" 400 malformed chunk extension\n")
	}
	for _, extension := range []string{"a", " a = b", "a=b;c", "a\t;\tc", `a="b;c\"d"`, `a="" ; b="\\"`, "!#$%&'*+-.^_`|~=1"} {
		f("extension "+extension, chunked("1;"+extension+"\r\na\r\n0\r\n\r\n")+get, "POST /p \"a\"\nGET /a \"\"\n")
	}
	const lineEnd = "400 a line of the chunked body does not end in CR LF, or is too long"
	f("LF behind the size", chunked("1\na\r\n0\r\n\r\n"), "POST /p \"\" "+lineEnd+"\n")
	f("LF in an extension", chunked("1;a\nb\r\na\r\n0\r\n\r\n"), "POST /p \"\" "+lineEnd+"\n")
	f("CR in an extension", chunked("1;a\rb\r\na\r\n0\r\n\r\n"), "POST /p \"\" "+lineEnd+"\n")
	f("longer than it says", chunked("1\r\nab\r\n0\r\n\r\n"), "POST /p \"a\" 400 a chunk is longer than it says\n")
	f("LF behind a chunk", chunked("1\r\na\n0\r\n\r\n"), "POST /p \"a\" 400 a chunk is longer than it says\n")
	f("LF in the trailers", chunked("0\r\nX: y\n\r\n"), "POST /p \"\" "+lineEnd+"\n")
	f("folded trailer", chunked("0\r\nX: y\r\n z\r\n\r\n"), "POST /p \"\" 400 folded header line\n")
	f("long extension", chunked("1;"+strings.Repeat("a", 300)+"\r\na\r\n0\r\n\r\n"), "POST /p \"\" "+lineEnd+"\n")
	f("many extensions", chunked(strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\na\r\n", 100)+"0\r\n\r\n"), "POST /p \""+strings.Repeat("a", 81)+"\" 400 too many chunk extensions\n")
}

func slicesOf(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			k := min(n, len(b))
			if !yield(b[:k]) {
				return
			}
			b = b[k:]
		}
	}
}

// What is left of a body that nobody read is taken off the connection when it
// is short and on its way, and else the connection ends.
func TestUnread(t *testing.T) {
	f := func(name, sent, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			client, c := pair(config())
			defer client.Close()
			go func() { _, _ = io.WriteString(client, sent) }()
			if err := c.Await(); err != nil {
				t.Fatal(err)
			}
			var r ingress.Request
			head, err := c.Head()
			if err == nil {
				err = r.ParseHead(head)
			}
			if err != nil {
				t.Fatal(err)
			}
			c.Expect(&r)
			got := fmt.Sprint(c.WillKeep(), " ", c.Done())
			if c.Await() == nil {
				head, err := c.Head()
				got += fmt.Sprintf(" %.6s %v", head, err)
			}
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
	const next = "GET /b HTTP/1.1\r\nHost: h\r\n\r\n"
	post := func(fields, body string) string {
		return "POST /p HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n\r\n" + body + next
	}
	f("short", post("Content-Length: 3", "abc"), "true true GET /b <nil>")
	f("longer than the buffer", post("Content-Length: 60000", strings.Repeat("a", 60000)), "true true GET /b <nil>")
	if !(&Conn{}).Whole() {
		t.Error("no body is whole")
	}
}

// A client that waits for 100 gets it with the first read, and not without.
func TestContinue(t *testing.T) {
	client, c := pair(config())
	defer client.Close()
	got := make(chan string)
	go func() {
		_, _ = io.WriteString(client, "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		b := make([]byte, 100)
		n, _ := client.Read(b)
		_, _ = io.WriteString(client, "ok")
		got <- string(b[:n])
	}()
	if err := c.Await(); err != nil {
		t.Fatal(err)
	}
	var r ingress.Request
	head, _ := c.Head()
	if err := r.ParseHead(head); err != nil {
		t.Fatal(err)
	}
	c.Expect(&r)
	if c.WillKeep() {
		t.Error("a body that may or may not come leaves the connection unclear")
	}
	body := make([]byte, 2)
	if _, err := io.ReadFull(c, body); err != nil || string(body) != "ok" {
		t.Errorf("%q, %v", body, err)
	}
	if s := <-got; s != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Errorf("the client got %q", s)
	}
}

// Times: of a head, between requests, within a body.
func TestTimes(t *testing.T) {
	f := func(name, sent, want string, after time.Duration) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, c := pair(config())
				if sent != "" {
					go func() { _, _ = io.WriteString(client, sent) }()
				}
				start := time.Now()
				got := served(c)
				if got != want {
					t.Errorf("%q, want %q", got, want)
				}
				if took := time.Since(start); took < after-2*time.Second || took > after+time.Second {
					t.Errorf("took %v, want about %v", took, after)
				}
				_ = client.Close()
				c.Close()
			})
		})
	}
	f("silent", "", "", time.Minute)
	f("half a head", "GET / HT", "408 the request did not arrive in time\n", 10*time.Second)
	f("after a request", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / \"\"\n", time.Minute)
	f("half a body", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc", "PUT / \"abc\" read pipe: i/o timeout\n", time.Minute)
	f("an empty line", "\r\n", "EOF\n", 10*time.Second)
}

// An idle connection holds no buffer, and goes on with what comes.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, c := pair(config())
		done := make(chan error)
		go func() { done <- c.Await() }()
		<-time.After(30 * time.Second)
		synctest.Wait()
		if c.in != nil {
			t.Error("it holds a buffer")
		}
		go func() { _, _ = io.WriteString(client, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n") }()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if head, err := c.Head(); err != nil || !bytes.HasPrefix(head, []byte("GET /x ")) {
			t.Errorf("%q, %v", head, err)
		}
		_ = client.Close()
	})
}

// Answers as they are on the wire.
func TestAnswers(t *testing.T) {
	f := func(name, want string, write func(c *Conn) error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			client, c := pair(config())
			c.request = &ingress.Request{Minor: 1}
			got := make(chan string)
			go func() {
				b, _ := io.ReadAll(client)
				got <- string(b)
			}()
			if err := write(c); err != nil {
				t.Error(err)
			}
			_ = c.nc.Close()
			if s := <-got; s != want {
				t.Errorf("%q, want %q", s, want)
			}
			c.Close()
		})
	}
	stream := func(o *Out, body io.Reader, length int64, trailer func(*Out)) error {
		broken, err := o.Stream(body, length, trailer)
		return errors.Join(broken, err)
	}
	f("whole", "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nok", func(c *Conn) error {
		o := c.Begin(200, 2)
		o.Field([]byte("A"), []byte("b"))
		o.Length(2)
		return o.Whole([]byte("ok"))
	})
	long := strings.Repeat("x", 100_000)
	f("long", "HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n"+long, func(c *Conn) error {
		o := c.Begin(404, len(long))
		o.Length(100_000)
		return o.Whole([]byte(long))
	})
	f("fixed stream", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+long, func(c *Conn) error {
		o := c.Begin(200, 0)
		o.Length(100_000)
		return stream(&o, strings.NewReader(long+"more"), 100_000, nil)
	})
	f("short stream", "HTTP/1.1 200 OK\r\n\r\nab", func(c *Conn) error {
		o := c.Begin(200, 0)
		if broken, err := o.Stream(strings.NewReader("ab"), 3, nil); err != nil || !errors.Is(broken, io.ErrUnexpectedEOF) {
			return fmt.Errorf("broken %w, %w", broken, err)
		}
		return nil
	})
	f("until the end", "HTTP/1.1 200 OK\r\n\r\nab", func(c *Conn) error {
		o := c.Begin(200, 0)
		return stream(&o, strings.NewReader("ab"), ByClose, nil)
	})
	f("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n11\r\n0123456789abcdefg\r\n0\r\nX: y\r\n\r\n", func(c *Conn) error {
		o := c.Begin(200, 0)
		o.Chunked()
		return stream(&o, io.MultiReader(strings.NewReader("a"), strings.NewReader("0123456789abcdefg")), ByChunks, func(o *Out) {
			o.Field([]byte("X"), []byte("y"))
		})
	})
	f("interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", func(c *Conn) error {
		err := c.Interim(103, func(o *Out) { o.Field([]byte("Link"), []byte("</a>")) })
		o := c.Begin(204, 0)
		err = errors.Join(err, o.Whole(nil))
		return errors.Join(err, c.Interim(103, nil)) // too late: nothing
	})
	f("interim for HTTP/1.0", "", func(c *Conn) error {
		c.request.Minor = 0
		return c.Interim(103, nil)
	})
}

// A client that reads slowly has time as long as it takes some.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, c := pair(config())
		read := make(chan int)
		go func() {
			b, total := make([]byte, 1000), 0
			for range 20 {
				<-time.After(50 * time.Second)
				n, err := client.Read(b)
				total += n
				if err != nil {
					break
				}
			}
			read <- total
		}()
		o := c.Begin(200, 0)
		err := o.Whole(make([]byte, 60_000))
		if !isTimeout(err) {
			t.Errorf("%v, want a timeout once the client stops", err)
		}
		if n := <-read; n < 19_000 {
			t.Errorf("only %d bytes read", n)
		}
	})
}

// A read that waits is woken, whenever the interruption comes.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := pair(config())
		c.in = c.cfg.take(smallBuffer)
		c.Expect(&ingress.Request{Minor: 1, BodyLength: 5})
		failed := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 5))
			failed <- err
		}()
		synctest.Wait()
		c.Interrupt()
		if c.WillKeep() || c.Whole() {
			t.Error("the connection goes on")
		}
		if err := <-failed; err == nil {
			t.Error("it read")
		}
		if _, err := c.Read(make([]byte, 5)); err == nil || c.WillKeep() {
			t.Error("the connection goes on")
		}
	})
}
