package config

import (
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// What is wrong with a word, or "".

func name(s string) string {
	if len(validation.IsDNS1123Subdomain(s)) > 0 {
		return "must be lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit, at most 253 characters"
	}
	return ""
}

func label(s string) string {
	if len(validation.IsDNS1123Label(s)) > 0 {
		return "must be lower-case letters, digits and `-`, beginning and ending with a letter or digit, at most 63 characters"
	}
	return ""
}

func hostname(s string) string {
	rest := strings.TrimPrefix(s, "*.")
	switch {
	case strings.Contains(s, "://"):
		return "must be a host name alone, without scheme"
	case strings.Contains(s, ":"):
		return "must be a host name alone, without port"
	case strings.Contains(rest, "*"):
		return "may have `*` only as the whole first part, as in *.example.com"
	case strings.ToLower(s) != s:
		return "must be in lower case"
	case len(validation.IsDNS1123Subdomain(rest)) > 0:
		return "must be a host name, such as example.com or *.example.com"
	case len(validation.IsValidIP(nil, rest)) == 0:
		return "must be a host name, not an IP address"
	}
	return ""
}

func preciseHostname(s string) string {
	if strings.HasPrefix(s, "*") {
		return "must be one host name, without `*`"
	}
	return hostname(s)
}

func group(s string) string {
	if strings.Contains(s, "/") {
		return "must be an API group without version, such as " + gatewayv1.GroupName
	}
	if s != "" && len(validation.IsDNS1123Subdomain(s)) > 0 {
		return "must be an API group, such as " + gatewayv1.GroupName
	}
	return ""
}

var kindPattern = regexp.MustCompile(`^[a-zA-Z]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

func kindName(s string) string {
	if !kindPattern.MatchString(s) {
		return "must be a kind, such as Gateway"
	}
	return ""
}

var durationPattern = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

func duration(s string) string {
	if !durationPattern.MatchString(s) {
		return "must be a duration such as 500ms, 30s or 1h30m: digits and a unit of h, m, s or ms, without sign and fraction"
	}
	return ""
}

func headerName(s string) string {
	if !httpguts.ValidHeaderFieldName(s) || len(s) > 256 {
		return "must be a header name: letters, digits and - without spaces or colon"
	}
	return ""
}

var controllerPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$`)

func controllerName(s string) string {
	if !controllerPattern.MatchString(s) {
		return "must be a domain and a path, such as kgateway.dev/agentgateway"
	}
	return ""
}

func protocol(s string) string {
	known := []string{"HTTP", "HTTPS", "TLS", "TCP", "UDP"}
	if slices.Contains(known, s) || strings.Contains(s, "/") {
		return ""
	}
	if up := strings.ToUpper(s); slices.Contains(known, up) {
		return "must be in upper case: " + up
	}
	return "must be one of HTTP, HTTPS, TLS, TCP, UDP"
}

var originPattern = regexp.MustCompile(`^\*$|^https?://((\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?$`)

func corsOrigin(s string) string {
	if !originPattern.MatchString(s) {
		return "must be an origin, such as https://example.com, without a path, or *"
	}
	return ""
}
