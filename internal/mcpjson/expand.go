package mcpjson

import (
	"fmt"
	"strings"
)

// An expander replaces variables the way the clients do: ${VAR} and
// ${VAR:-default} (Claude), ${env:VAR} (VS Code, Cursor) and ${input:id} (VS
// Code), which a client would ask its user for and which is taken from the
// environment variable MCPGW_INPUT_ID here.
type expander struct {
	lookup func(string) (string, bool)
}

// server replaces the variables in all fields of s.
func (e expander) server(s *server) error {
	for _, field := range []*string{&s.Command, &s.Cwd, &s.URL} {
		if err := e.text(field); err != nil {
			return err
		}
	}
	for i := range s.Args {
		if err := e.text(&s.Args[i]); err != nil {
			return err
		}
	}
	for _, values := range []map[string]string{s.Env, s.Headers} {
		for key, value := range values {
			if err := e.text(&value); err != nil {
				return err
			}
			values[key] = value
		}
	}
	return nil
}

// text replaces the variables in *s. Values are not expanded again.
func (e expander) text(s *string) error {
	var out strings.Builder
	rest := *s
	for {
		before, after, found := strings.Cut(rest, "${")
		out.WriteString(before)
		if !found {
			*s = out.String()
			return nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return fmt.Errorf("the variable in %q has no closing brace", "${"+firstRunes(after, 20))
		}
		value, err := e.value(name)
		if err != nil {
			return err
		}
		out.WriteString(value)
		rest = tail
	}
}

// value returns what stands between the braces of a variable.
func (e expander) value(name string) (string, error) {
	if id, ok := strings.CutPrefix(name, "input:"); ok {
		variable := "MCPGW_INPUT_" + strings.ToUpper(strings.Map(identifierRune, id))
		value, ok := e.lookup(variable)
		if !ok {
			return "", fmt.Errorf("it needs the input %q: set the environment variable %s", id, variable)
		}
		return value, nil
	}
	if name == "userHome" {
		name = "HOME"
	}
	name = strings.TrimPrefix(name, "env:")
	name, fallback, hasFallback := strings.Cut(name, ":-")
	value, ok := e.lookup(name)
	switch {
	case ok && (value != "" || !hasFallback):
		return value, nil
	case hasFallback:
		return fallback, nil
	default:
		return "", fmt.Errorf("it needs the environment variable %s: set it", name)
	}
}

func identifierRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return r
	default:
		return '_'
	}
}

func firstRunes(s string, n int) string {
	runes := []rune(s)
	return string(runes[:min(n, len(runes))])
}

// standardize returns JSON without the comments and trailing commas that editors
// permit, each replaced by spaces so that offsets in errors stay right.
func standardize(data []byte) []byte {
	out := append([]byte(nil), data...)
	comma := -1 // the last comma, while only space and comments followed it
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case c == '"':
			comma = -1
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case c == '/' && i+1 < len(out) && out[i+1] == '/':
			for ; i < len(out) && out[i] != '\n'; i++ {
				out[i] = ' '
			}
		case c == '/' && i+1 < len(out) && out[i+1] == '*':
			end := i + 2
			for end < len(out) && !(out[end-1] == '*' && out[end] == '/' && end > i+2) {
				end++
			}
			for ; i <= end && i < len(out); i++ {
				if out[i] != '\n' {
					out[i] = ' '
				}
			}
			i--
		case c == ',':
			comma = i
		case c == '}' || c == ']':
			if comma >= 0 {
				out[comma] = ' '
			}
			comma = -1
		case c != ' ' && c != '\t' && c != '\n' && c != '\r':
			comma = -1
		}
	}
	return out
}
