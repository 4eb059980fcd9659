package configs

import (
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// maxDepth bounds the nesting of values. The parser recurses and writes out
// the path of each value: 200 kB of brackets would cost it 10 GB.
const maxDepth = 64

// tooDeep returns the token at which brackets, or the dashes and question
// marks of one line, nest deeper than maxDepth; nil if none do. Indentation
// needs no bound: each level costs a column on each line.
func tooDeep(tokens token.Tokens) *token.Token {
	brackets, marks, line := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType:
			if t.Position.Line != line {
				line, marks = t.Position.Line, 0
			}
			marks++
		}
		if brackets > maxDepth || marks > maxDepth {
			return t
		}
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil || strings.Contains(err.Error(), "out of range")
}

// syntaxHint says what most often is meant by a complaint of the parser.
func syntaxHint(message string) string {
	switch {
	case strings.Contains(message, "'\t'"):
		return "YAML is indented by spaces"
	case strings.HasPrefix(message, "mapping value is not allowed"):
		return "quote a value that has a colon and a space in it"
	case strings.HasPrefix(message, "value is not allowed"):
		return "look at the indentation"
	}
	return ""
}
