package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gatehouse-gateway/gatehouse"
)

// isTerminal reports whether a stream is one: a character device that is not
// the null device.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// colours reports whether a stream takes them: https://no-color.org.
func (s *streams) colours(stream any) bool {
	return isTerminal(stream) && s.getenv("NO_COLOR") == "" && s.getenv("TERM") != "dumb"
}

// confirm asks for the name of what is about to be destroyed. Off a terminal
// nobody is there to ask, and --yes says it.
func confirm(ctx context.Context, s *streams, f *changeFlags, what, name string) error {
	switch {
	case f.yes || f.dryRun:
		return nil
	case !isTerminal(s.stdin):
		return &exit{exitUsage, fmt.Errorf("%s %s: nobody is there to ask; give --yes to do it, or --dry-run to see what it would do", what, name)}
	}
	fmt.Fprintf(s.errors, "%s %s. Type the name to go on: ", what, name)
	line, err := readLine(ctx, s.stdin)
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(s.errors) // the cursor stands behind the question
		return err
	}
	if strings.TrimSpace(line) != name {
		return &exit{exitError, errors.New("that is not the name: nothing was changed")}
	}
	return nil
}

// readLine reads a line, unless ctx ends before: a read of a terminal cannot be
// called off, and ends with the process.
func readLine(ctx context.Context, from io.Reader) (string, error) {
	type answer struct {
		line string
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(from).ReadString('\n')
		read <- answer{line, err}
	}()
	select {
	case a := <-read:
		return a.line, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// readInput reads a file, or standard input for "-".
func readInput(s *streams, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(s.stdin, 256<<20))
	}
	return os.ReadFile(name)
}

// didYouMean is a hint at the nearest of the names, empty where none is near.
func didYouMean(name string, known []string) string {
	near := gatehouse.Nearest(name, known)
	if near == "" || near == name {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", near)
}
