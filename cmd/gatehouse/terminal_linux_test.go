package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// console is a command on a terminal of its own.
type console struct {
	program
	keyboard *os.File // the other side of the terminal
	terminal *os.File
	before   unix.Termios
	shown    chan struct{} // closed when the terminal is, and all of it was read
}

// onTerminal starts a command on a terminal of 24 rows and 80 columns.
func onTerminal(t *testing.T, env []string, args ...string) *console {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{keyboard: os.NewFile(uintptr(fd), "ptmx")}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if c.terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	c.size(t, 24, 80)
	c.before = c.modes(t)
	c.t, c.stdout, c.stderr, c.ended = t, newLines(), newLines(), make(chan error, 1)
	c.cmd = exec.Command(os.Args[0], args...)
	c.cmd.Env = append(append(os.Environ(), "GATEHOUSE_TEST_MAIN=1", "TERM=xterm"), env...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = c.terminal, c.terminal, c.terminal
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.shown = make(chan struct{})
	go func() {
		defer close(c.shown)
		for b := make([]byte, 4096); ; {
			n, err := c.keyboard.Read(b)
			_, _ = c.stdout.Write(b[:n]) // it never fails
			if err != nil {
				return // closed
			}
		}
	}()
	go func() { c.ended <- c.cmd.Wait() }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // most have ended by themselves
		err := <-c.ended
		c.ended <- err
		_ = c.terminal.Close() // again, where it has ended by itself
		<-c.shown
		_ = c.keyboard.Close()
	})
	return c
}

func (c *console) press(keys string) {
	c.t.Helper()
	if _, err := c.keyboard.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// size tells whoever is on the terminal that it has another one.
func (c *console) size(t *testing.T, rows, columns uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(c.terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

func (c *console) modes(t *testing.T) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(c.terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// ends expects an exit code, what stands on the terminal at last, and the
// terminal as it was.
func (c *console) ends(code int, says string) {
	c.t.Helper()
	got := c.wait()
	if m := c.modes(c.t); m != c.before {
		c.t.Errorf("the terminal is left in another mode: %+v, it was %+v", m, c.before)
	}
	if err := c.terminal.Close(); err != nil {
		c.t.Fatal(err)
	}
	<-c.shown
	if got != code || !regexp.MustCompile(says+"$").MatchString(c.stdout.String()) {
		c.t.Errorf("exit code %d, not %d, and not %q at the end of\n%q", got, code, says, c.stdout)
	}
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
)

// onStore starts a control plane, and returns the variables that lead to it.
func onStore(t *testing.T) []string {
	t.Helper()
	data := t.TempDir()
	p := start(t, storeArgs(t, data)...)
	return []string{"GATEHOUSE_SERVER=http://" + p.control, "GATEHOUSE_TOKEN=" + bootstrapToken(t, data), "HOME=" + data, "XDG_CONFIG_HOME="}
}

// Top takes the whole of a terminal, fits it also when its size changes, and
// gives it back at q and at Ctrl-C.
func TestTopOnATerminal(t *testing.T) {
	env := onStore(t)
	t.Run("size and q", func(t *testing.T) {
		c := onTerminal(t, env, "top", "--interval", "1h") // nothing but its size makes it draw again
		c.await(c.stdout, regexp.QuoteMeta(ownScreen+home+bold+"reading from http://127.0.0.1:"))
		c.size(t, 24, 12)
		c.await(c.stdout, regexp.QuoteMeta(home+bold+"reading from"+plainText+restOfLine+restOfPage))
		c.press("x") // means nothing, and is not shown
		c.press("q")
		c.ends(exitOK, regexp.QuoteMeta(restOfPage+leaveScreen))
	})
	t.Run("frames and Ctrl-C", func(t *testing.T) {
		c := onTerminal(t, env, "top", "--interval", "20ms")
		const frame = `\x1b\[H\x1b\[1m\d\d:\d\d:\d\d   0\.0 requests/s .*\r\n[^\x1b]*\x1b\[K`
		c.await(c.stdout, `(?s)`+frame+`.*TENANT .*local .*`+frame)
		c.size(t, 5, 30)
		c.await(c.stdout, `\x1b\[H\x1b\[1m[^\x1b\r]{30}\x1b\[0m\x1b\[K(\r\n[^\x1b\r]{0,30}\x1b\[K){3}\r\n… \d lines more\x1b\[K\x1b\[J`)
		c.press(ctrlC)
		c.ends(exitInterrupted, regexp.QuoteMeta(leaveScreen)+`gatehouse: interrupted\r\n`)
	})
	t.Run("without colours", func(t *testing.T) {
		c := onTerminal(t, append(slices.Clone(env), "NO_COLOR=1"), "top", "--interval", "20ms")
		c.await(c.stdout, `\x1b\[H\d\d:\d\d:\d\d   0\.0 requests/s`)
		c.press("q")
		c.ends(exitOK, regexp.QuoteMeta(leaveScreen))
		if strings.Contains(c.stdout.String(), bold) {
			t.Errorf("there are colours: %q", c.stdout)
		}
	})
	t.Run("dumb terminal", func(t *testing.T) {
		c := onTerminal(t, append(slices.Clone(env), "TERM=dumb"), "top", "--interval", "20ms", "--count", "2")
		c.ends(exitOK, `(\d\d:\d\d:\d\d  0\.0 requests/s .*\r\n){2}`)
		if strings.Contains(c.stdout.String(), "\x1b") {
			t.Errorf("there are codes: %q", c.stdout)
		}
	})
	t.Run("no terminal", func(t *testing.T) {
		cmd := exec.Command(os.Args[0], "top", "--interval", "20ms", "--count", "2")
		cmd.Env = append(append(os.Environ(), "GATEHOUSE_TEST_MAIN=1", "TERM=xterm"), env...)
		out, err := cmd.Output()
		if err != nil || !regexp.MustCompile(`^(\d\d:\d\d:\d\d  0\.0 requests/s .*\n){2}$`).Match(out) {
			t.Errorf("%v %q", err, out)
		}
	})
}

// What destroys asks for the name on a terminal: the name does it; another,
// the end of the input and Ctrl-C do not.
func TestConfirmOnATerminal(t *testing.T) {
	env := onStore(t)
	gatehouse := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(append(os.Environ(), "GATEHOUSE_TEST_MAIN=1"), env...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return string(out)
	}
	gatehouse("tenant", "create", "acme")
	f := func(name, keys string, code int, says, left string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			c := onTerminal(t, env, "tenant", "delete", "acme")
			c.await(c.stdout, `delete tenant acme\. Type the name to go on: $`)
			c.press(keys)
			c.ends(code, says)
			if got := gatehouse("tenant", "list", "-o", "name"); got != left {
				t.Errorf("left are %q", got)
			}
		})
	}
	f("another name", "acm\n", exitError, `gatehouse: that is not the name: nothing was changed\r\n`, "acme\n")
	f("nothing", "\n", exitError, `that is not the name: nothing was changed\r\n`, "acme\n")
	f("end of input", ctrlD, exitError, `that is not the name: nothing was changed\r\n`, "acme\n")
	f("Ctrl-C", "ac"+ctrlC, exitInterrupted, `gatehouse: interrupted\r\n`, "acme\n")
	f("the name", "acme\n", exitOK, `\nacme .*\r\n`, "")
}
