package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
)

// An ExpressionError says where in an expression the mistake is.
type ExpressionError struct {
	Offset  int    // in characters from the start of the expression
	Message string // what is wrong and, where it is known, what was meant
}

// Error implements error.
func (e *ExpressionError) Error() string { return e.Message }

// explain turns the first issue that CEL found into an error for the author.
func explain(source string, issues *cel.Issues) *ExpressionError {
	list := issues.Errors()
	if len(list) == 0 {
		return &ExpressionError{Message: issues.Err().Error()}
	}
	first := list[0]
	text := []rune(source)
	at := min(offset(source, first.Location), len(text))
	if m := undeclared.FindStringSubmatch(first.Message); m != nil {
		return &ExpressionError{Offset: nameBefore(text, at, m[1]), Message: unknownName(m[1])}
	}
	if m := undefined.FindStringSubmatch(first.Message); m != nil {
		before := string(text[:at])
		if at < len(text) && text[at] == '.' {
			at++
		}
		return &ExpressionError{Offset: at, Message: unknownField(before, m[1])}
	}
	if m := overload.FindStringSubmatch(first.Message); m != nil {
		return &ExpressionError{Offset: nameBefore(text, at, m[1]), Message: fmt.Sprintf("%s does not take %s", printable(m[1]), m[2])}
	}
	return &ExpressionError{Offset: at, Message: strings.TrimPrefix(first.Message, "Syntax error: ")}
}

// nameBefore returns where name begins if it ends at that place of text, else at: CEL points
// to the parenthesis of a call.
func nameBefore(text []rune, at int, name string) int {
	if n := len([]rune(name)); n <= at && string(text[at-n:at]) == name {
		return at - n
	}
	return at
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	undefined  = regexp.MustCompile(`^undefined field '([^']*)'`)
	overload   = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
)

// printable turns CEL's inner name of an operator into the one that is written.
func printable(function string) string {
	return strings.NewReplacer("_", "", "@", "").Replace(function)
}

// offset turns a line and column of source into characters from its start.
func offset(source string, l common.Location) int {
	at := 0
	lines := strings.Split(source, "\n")
	for i := 0; i < l.Line()-1 && i < len(lines); i++ {
		at += len([]rune(lines[i])) + 1
	}
	return max(at+l.Column(), 0)
}

// elsewhere lists names of other gateways and other phases, and why they are not
// here.
func elsewhere() map[string]string {
	return map[string]string{
		"response":  "there is no response yet",
		"mcp":       "what a request asks for is read later",
		"llm":       "a rule decides before the body of a request to a model is read",
		"env":       "a rule does not read the environment of the gateway",
		"random":    "a rule has to decide the same way each time",
		"variables": "it is not available in rules",
	}
}

// unknownName says that name is no variable or function.
func unknownName(name string) string {
	if why, ok := elsewhere()[name]; ok {
		return fmt.Sprintf("%s is not available: %s", name, why)
	}
	var names []string
	for _, v := range variables() {
		names = append(names, v.name)
	}
	if s := closest(name, names); s != "" {
		return fmt.Sprintf("unknown name %s; did you mean %s?", name, s)
	}
	return fmt.Sprintf("unknown name %s; the variables are %s", name, strings.Join(names, ", "))
}

// unknownField says that what stands in before has no such field.
func unknownField(before, name string) string {
	object := object.FindString(before)
	switch object + "." + name {
	case "request.body":
		return "request.body is not available: rules decide before the body is read; use mcp.tool.arguments"
	case "request.startTime", "request.endTime":
		return "request." + name + " is not available: a rule has to decide the same way each time"
	case "source.identity":
		return "source.identity is not available: rules don't see the certificates of clients"
	}
	typ := map[string]string{
		"request": requestType, "source": sourceType, "backend": backendType, "mcp": mcpType,
		"mcp.tool": toolType, "mcp.prompt": promptType, "mcp.resource": resourceType,
	}[object]
	names := fieldNames(typ)
	switch s := closest(name, names); {
	case s != "":
		return fmt.Sprintf("unknown field %s; did you mean %s?", name, s)
	case len(names) > 0:
		return fmt.Sprintf("unknown field %s; %s has %s", name, object, strings.Join(names, ", "))
	}
	return "unknown field " + name
}

// object matches the path that ends a text.
var object = regexp.MustCompile(`[a-zA-Z]+(\.[a-zA-Z]+)*$`)

// closest returns the one of names that was probably meant, or "".
func closest(name string, names []string) string {
	best, least := "", 3
	for _, n := range names {
		if strings.EqualFold(n, name) || n+"s" == name || name+"s" == n {
			return n
		}
		if d := distance(name, n); d < least && d*2 <= len(n) {
			best, least = n, d
		}
	}
	return best
}

// distance is the number of letters to change, add or take to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(previous[j+1]+1, row[j]+1, previous[j]+cost)
		}
	}
	return row[len(b)]
}
