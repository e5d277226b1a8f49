package policy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
)

// Limits on what an expression may do.
const (
	maxExpression = 4 << 10  // characters of an expression
	maxNesting    = 100      // levels of nesting of an expression
	maxText       = 64 << 10 // bytes of a string that a function reads or makes
	maxRegexp     = 10_000   // instructions of a regular expression
	maxCost       = 100_000  // cost of an evaluation, in CEL's units
)

// inCIDR is the function that a comparison of source.address becomes. No expression can
// name it.
const inCIDR = "@inCIDR"

// regexpFunctions lists the functions that take a regular expression, and where.
func regexpFunctions() map[string]int {
	return map[string]int{"matches": 1, "regexReplace": 1}
}

// functions returns the functions beside those of CEL and its network extension.
// They are CEL's string extension and the names that agentgateway gave to JSON,
// base64 and regular expressions; all are bounded in what they read and make. There
// is no function whose result changes between two evaluations.
func functions() []cel.EnvOption {
	text, number, list := cel.StringType, cel.IntType, cel.ListType(cel.StringType)
	member := func(name, id string, in []*cel.Type, out *cel.Type, f func(...ref.Val) ref.Val) cel.EnvOption {
		return cel.Function(name, cel.MemberOverload(id, in, out, bind(f)))
	}
	global := func(name, id string, in []*cel.Type, out *cel.Type, f func(...ref.Val) ref.Val) cel.EnvOption {
		return cel.Function(name, cel.Overload(id, in, out, bind(f)))
	}
	of := func(t ...*cel.Type) []*cel.Type { return t }
	return []cel.EnvOption{
		member("charAt", "string_char_at_int", of(text, number), text, charAt),
		member("indexOf", "string_index_of_string", of(text, text), number, indexOf),
		member("indexOf", "string_index_of_string_int", of(text, text, number), number, indexOf),
		member("lastIndexOf", "string_last_index_of_string", of(text, text), number, lastIndexOf),
		member("join", "list_join", of(list), text, join),
		member("join", "list_join_string", of(list, text), text, join),
		member("lowerAscii", "string_lower_ascii", of(text), text, lowerASCII),
		member("upperAscii", "string_upper_ascii", of(text), text, upperASCII),
		member("replace", "string_replace_string_string", of(text, text, text), text, replace),
		member("replace", "string_replace_string_string_int", of(text, text, text, number), text, replace),
		member("split", "string_split_string", of(text, text), list, split),
		member("split", "string_split_string_int", of(text, text, number), list, split),
		member("substring", "string_substring_int", of(text, number), text, substring),
		member("substring", "string_substring_int_int", of(text, number, number), text, substring),
		member("trim", "string_trim", of(text), text, trim),
		global("json", "json_string", of(text), cel.DynType, parseJSON),
		global("base64Encode", "base64_encode_string", of(text), text, base64Encode),
		global("base64Decode", "base64_decode_string", of(text), text, base64Decode),
		global("regexReplace", "regex_replace_string", of(text, text, text), text, notLiteral),
		global(inCIDR, "in_cidr_string", of(text, text), cel.BoolType, containsAddress),
	}
}

// bind guards f: its strings are bounded.
func bind(f func(...ref.Val) ref.Val) cel.OverloadOpt {
	return cel.FunctionBinding(func(args ...ref.Val) ref.Val {
		for _, a := range args {
			if s, ok := a.(types.String); ok && len(s) > maxText {
				return tooLong()
			}
		}
		return f(args...)
	})
}

func tooLong() ref.Val {
	return types.NewErr("a string is over the limit of %d bytes", maxText)
}

func textOf(v ref.Val) string {
	s, _ := v.(types.String)
	return string(s)
}

func intOf(v ref.Val) int {
	i, _ := v.(types.Int)
	return int(i)
}

func outOfRange(i int) ref.Val { return types.NewErr("index out of range: %d", i) }

func charAt(a ...ref.Val) ref.Val {
	r, i := []rune(textOf(a[0])), intOf(a[1])
	switch {
	case i < 0 || i > len(r):
		return outOfRange(i)
	case i == len(r):
		return types.String("")
	}
	return types.String(r[i])
}

func indexOf(a ...ref.Val) ref.Val {
	s, from := textOf(a[0]), 0
	if len(a) == 3 {
		if from = intOf(a[2]); from < 0 || from > utf8.RuneCountInString(s) {
			return outOfRange(from)
		}
		s = string([]rune(s)[from:])
	}
	i := strings.Index(s, textOf(a[1]))
	if i < 0 {
		return types.Int(-1)
	}
	return types.Int(from + utf8.RuneCountInString(s[:i]))
}

func lastIndexOf(a ...ref.Val) ref.Val {
	s := textOf(a[0])
	i := strings.LastIndex(s, textOf(a[1]))
	if i < 0 {
		return types.Int(-1)
	}
	return types.Int(utf8.RuneCountInString(s[:i]))
}

func join(a ...ref.Val) ref.Val {
	separator := ""
	if len(a) == 2 {
		separator = textOf(a[1])
	}
	var out strings.Builder
	for i, v := range each(a[0]) {
		s, ok := v.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
		if i > 0 {
			out.WriteString(separator)
		}
		if out.Len()+len(s) > maxText {
			return tooLong()
		}
		out.WriteString(string(s))
	}
	return types.String(out.String())
}

func lowerASCII(a ...ref.Val) ref.Val { return mapASCII(textOf(a[0]), 'A', 'a') }

func upperASCII(a ...ref.Val) ref.Val { return mapASCII(textOf(a[0]), 'a', 'A') }

func mapASCII(s string, from, to byte) ref.Val {
	b := []byte(s)
	for i, c := range b {
		if c >= from && c < from+26 {
			b[i] = c - from + to
		}
	}
	return types.String(b)
}

func replace(a ...ref.Val) ref.Val {
	s, old, with, n := textOf(a[0]), textOf(a[1]), textOf(a[2]), -1
	if len(a) == 4 {
		n = intOf(a[3])
	}
	count := strings.Count(s, old)
	if n >= 0 {
		count = min(count, n)
	}
	if len(s)+count*(len(with)-len(old)) > maxText {
		return tooLong()
	}
	return types.String(strings.Replace(s, old, with, n))
}

func split(a ...ref.Val) ref.Val {
	n := -1
	if len(a) == 3 {
		n = intOf(a[2])
	}
	return types.NewStringList(types.DefaultTypeAdapter, strings.SplitN(textOf(a[0]), textOf(a[1]), n))
}

func substring(a ...ref.Val) ref.Val {
	r, from := []rune(textOf(a[0])), intOf(a[1])
	to := len(r)
	if len(a) == 3 {
		to = intOf(a[2])
	}
	switch {
	case from < 0 || from > len(r):
		return outOfRange(from)
	case to < from || to > len(r):
		return outOfRange(to)
	}
	return types.String(r[from:to])
}

func trim(a ...ref.Val) ref.Val { return types.String(strings.TrimSpace(textOf(a[0]))) }

func parseJSON(a ...ref.Val) ref.Val {
	v, err := decodeJSON([]byte(textOf(a[0])))
	if err != nil {
		return types.WrapErr(err)
	}
	return v
}

func base64Encode(a ...ref.Val) ref.Val {
	s := textOf(a[0])
	if base64.StdEncoding.EncodedLen(len(s)) > maxText {
		return tooLong()
	}
	return types.String(base64.StdEncoding.EncodeToString([]byte(s)))
}

func base64Decode(a ...ref.Val) ref.Val {
	b, err := base64.StdEncoding.DecodeString(textOf(a[0]))
	switch {
	case err != nil:
		return types.WrapErr(err)
	case !utf8.Valid(b):
		return types.NewErr("the decoded text is not UTF-8")
	}
	return types.String(b)
}

// notLiteral is what a call with a pattern that is no literal comes to. The compiler
// refuses such calls before.
func notLiteral(...ref.Val) ref.Val { return types.NewErr("the pattern is not a literal") }

// containsAddress reports whether the address a[0] is in the CIDR a[1], or is the
// address a[1]. IPv4 and IPv4-mapped IPv6 are the same (RFC 4291 section 2.5.5.2).
func containsAddress(a ...ref.Val) ref.Val {
	address, err := netip.ParseAddr(textOf(a[0]))
	if err != nil {
		return types.False
	}
	prefix, ok := parsePrefix(textOf(a[1]))
	return types.Bool(ok && prefix.Contains(address.Unmap().WithZone("")))
}

// parsePrefix reads a CIDR, or an address as the CIDR that holds it alone.
func parsePrefix(s string) (netip.Prefix, bool) {
	if address, err := netip.ParseAddr(s); err == nil {
		address = address.Unmap().WithZone("")
		return netip.PrefixFrom(address, address.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	if a := prefix.Addr(); a.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), true
}

// compileRegexp compiles a pattern within the limit.
func compileRegexp(pattern string) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > maxRegexp {
		return nil, fmt.Errorf("the regular expression is over the limit of %d instructions", maxRegexp)
	}
	return regexp.Compile(pattern)
}

// regexps replaces the calls that take a regular expression by such that hold it
// compiled and bound what they read.
func regexps() cel.ProgramOption {
	matches := func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
		re, err := compileRegexp(pattern)
		if err != nil {
			return nil, err
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(a ...ref.Val) ref.Val {
			s, ok := a[0].(types.String)
			switch {
			case !ok:
				return types.MaybeNoSuchOverloadErr(a[0])
			case len(s) > maxText:
				return tooLong()
			}
			return types.Bool(re.MatchString(string(s)))
		}), nil
	}
	replaces := func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
		re, err := compileRegexp(pattern)
		if err != nil {
			return nil, err
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(a ...ref.Val) ref.Val {
			return regexpReplace(re, a)
		}), nil
	}
	return cel.OptimizeRegex(
		&interpreter.RegexOptimization{Function: "matches", OverloadID: overloads.Matches, RegexIndex: 1, Factory: matches},
		&interpreter.RegexOptimization{Function: "matches", OverloadID: overloads.MatchesString, RegexIndex: 1, Factory: matches},
		&interpreter.RegexOptimization{Function: "regexReplace", OverloadID: "regex_replace_string", RegexIndex: 1, Factory: replaces},
	)
}

// regexpReplace replaces the matches of re in a[0] by a[2], in which $1 is the first
// group.
func regexpReplace(re *regexp.Regexp, a []ref.Val) ref.Val {
	for _, v := range a {
		if _, ok := v.(types.String); !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
	}
	s, with := textOf(a[0]), textOf(a[2])
	if len(s) > maxText || len(with) > maxText {
		return tooLong()
	}
	var out []byte
	last := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		out = append(out, s[last:m[0]]...)
		if out = re.ExpandString(out, with, s, m); len(out) > maxText {
			return tooLong()
		}
		last = m[1]
	}
	if len(out)+len(s)-last > maxText {
		return tooLong()
	}
	return types.String(append(out, s[last:]...))
}
