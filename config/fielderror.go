package config

import (
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// fieldProblem turns a mistake that [v1alpha1.Parse] found into a problem.
func fieldProblem(e *field.Error) finding {
	f := finding{Problem: Problem{Class: Invalid, Path: e.Field}}
	name := last(e.Field)
	detail := e.Detail
	switch e.Type {
	case field.ErrorTypeRequired:
		f.Code, f.onKey = CodeRequired, true
		f.Message = fmt.Sprintf("`%s` is missing", name)
		if detail != "" {
			f.Message += ": " + lowerFirst(strings.TrimSuffix(detail, "."))
		}
		if choice, ok := choiceMessage(detail); ok {
			f.Message = choice
		}
		return f
	case field.ErrorTypeForbidden:
		f.Code, f.onKey = CodeChoice, true
	case field.ErrorTypeTypeInvalid:
		f.Code = CodeType
	case field.ErrorTypeNotSupported:
		f.Code = CodeEnum
		if rest, ok := strings.CutPrefix(detail, "must be one of "); ok {
			if near := Suggest(fmt.Sprint(e.BadValue), strings.Split(rest, ", ")); near != "" && e.BadValue != nil {
				f.Label = "did you mean `" + near + "`?"
			}
		}
	case field.ErrorTypeDuplicate:
		f.Code = CodeDuplicateItem
	case field.ErrorTypeTooLong, field.ErrorTypeTooMany:
		f.Code = CodeTooLong
	default:
		f.Code = CodeInvalidValue
	}
	if advice, ok := strings.CutPrefix(detail, "must be"); ok && e.Type == field.ErrorTypeTypeInvalid {
		if before, after, ok := strings.Cut(advice, ": "); ok {
			detail, f.Label = "must be"+before, after
		}
		if s, ok := e.BadValue.(string); ok && f.Label == "remove the quotes" {
			f.Label = notText(s)
		}
	}
	f.Message = fmt.Sprintf("`%s` %s", name, detail)
	if choice, ok := choiceMessage(detail); ok {
		f.Message = choice
	} else if !startsLikeVerb(detail) {
		f.Message = fmt.Sprintf("`%s`: %s", name, detail)
	}
	return f
}

// choiceMessage turns the advice to set one of some fields into what is wrong.
func choiceMessage(detail string) (string, bool) {
	for advice, message := range map[string]string{
		"set one of ":          "one of %s must be set",
		"set exactly one of ":  "one of %s must be set",
		"set at least one of ": "at least one of %s must be set",
		"set only one of ":     "only one of %s may be set",
	} {
		if fields, ok := strings.CutPrefix(detail, advice); ok {
			return fmt.Sprintf(message, fields), true
		}
	}
	return "", false
}

// startsLikeVerb reports whether detail can follow the name of a field.
func startsLikeVerb(detail string) bool {
	first, _, _ := strings.Cut(detail, " ")
	switch first {
	case "must", "may", "is", "has", "can", "can't", "needs":
		return true
	}
	return false
}

// lowerFirst returns s with its first letter in lower case, unless the first word is
// an abbreviation.
func lowerFirst(s string) string {
	if len(s) < 2 || s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

var itemNumber = regexp.MustCompile(`\[[0-9]+\]`)

// noun says in words what the field at path is in.
func noun(kind, path string) string {
	pattern := itemNumber.ReplaceAllString(path, "[]")
	best, words := 0, " in "+kind
	for _, n := range []struct{ kind, in, words string }{
		{v1alpha1.KindBackend, "spec.mcp.targets[]", "MCP target"},
		{v1alpha1.KindBackend, "spec.mcp.targets[].auth", "the credential of an MCP target"},
		{v1alpha1.KindBackend, "spec.mcp", "MCP backend"},
		{v1alpha1.KindBackend, "spec.ai", "AI backend"},
		{v1alpha1.KindBackend, "spec.static", "static backend"},
		{v1alpha1.KindBackend, "spec.aws", "AWS backend"},
		{v1alpha1.KindTrafficPolicy, "spec.rbac", "rbac rule"},
		{v1alpha1.KindTrafficPolicy, "spec.rateLimit", "rate limit"},
		{v1alpha1.KindTrafficPolicy, "spec.ai.promptGuard", "prompt guard"},
		{v1alpha1.KindHTTPListenerPolicy, "spec.accessLog[]", "access log"},
		{v1alpha1.KindHTTPListenerPolicy, "spec.tracing", "tracing"},
		{"", "metadata", "metadata"},
	} {
		if (n.kind == kind || n.kind == "") && len(n.in) > best && strings.HasPrefix(pattern, n.in) && len(pattern) > len(n.in) {
			best, words = len(n.in), " in "+n.words
		}
	}
	return words
}
