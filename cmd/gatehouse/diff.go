package main

import (
	"io"
	"strings"
)

// lineDiff returns the lines of both texts, those that differ marked with - and
// +, and of the others those next to them.
func lineDiff(from, to string) []string {
	a, b := splitLines(from), splitLines(to)
	// Longest common subsequence; modules are small, others are cut.
	const most = 4000
	if len(a) > most || len(b) > most {
		return []string{"- " + from, "+ " + to}
	}
	common := make([][]uint16, len(a)+1)
	for i := range common {
		common[i] = make([]uint16, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return nearChanges(out)
}

// beside is how many equal lines are shown beside a change.
const beside = 3

func nearChanges(lines []string) []string {
	keep := make([]bool, len(lines))
	for i, l := range lines {
		if l[0] == ' ' {
			continue
		}
		for j := max(0, i-beside); j <= min(len(lines)-1, i+beside); j++ {
			keep[j] = true
		}
	}
	var out []string
	for i, l := range lines {
		switch {
		case keep[i]:
			out = append(out, l)
		case i > 0 && keep[i-1]:
			out = append(out, "  …")
		}
	}
	return out
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// Colours of a terminal.
const (
	red, green, yellow, bold, plainText = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
)

// colour paints text for a stream that takes colours.
func (s *streams) colour(stream io.Writer, code, text string) string {
	if !s.colours(stream) {
		return text
	}
	return code + text + plainText
}

// paint joins lines of a difference for standard output.
func (s *streams) paint(lines []string) string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = printable(l)
		switch l[0] {
		case '-':
			out[i] = s.colour(s.terminal, red, out[i])
		case '+':
			out[i] = s.colour(s.terminal, green, out[i])
		case '~':
			out[i] = s.colour(s.terminal, yellow, out[i])
		}
	}
	return strings.Join(out, "\n")
}
