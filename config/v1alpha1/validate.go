package v1alpha1

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// A choice is a field of which one of several may be set.
//
// +kubebuilder:object:generate=false
type choice struct {
	name string
	set  bool
}

// names returns the names of choices as a sentence lists them.
func names(choices []choice) string {
	all := make([]string, len(choices))
	for i, c := range choices {
		all[i] = c.name
	}
	if len(all) == 1 {
		return all[0]
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

// count returns how many choices are set, and the name of the last.
func count(choices []choice) (n int, last string) {
	for _, c := range choices {
		if c.set {
			n, last = n+1, c.name
		}
	}
	return n, last
}

// exactlyOne reports when not exactly one of the choices is set.
func exactlyOne(p *field.Path, choices ...choice) field.ErrorList {
	switch n, last := count(choices); n {
	case 0:
		return field.ErrorList{field.Required(p, "set one of "+names(choices))}
	case 1:
		return nil
	default:
		return field.ErrorList{field.Forbidden(p.Child(last), "set only one of "+names(choices))}
	}
}

// atMostOne reports when several of the choices are set.
func atMostOne(p *field.Path, choices ...choice) field.ErrorList {
	if n, last := count(choices); n > 1 {
		return field.ErrorList{field.Forbidden(p.Child(last), "set only one of "+names(choices))}
	}
	return nil
}

// atLeastOne reports when none of the choices is set; why says what follows.
func atLeastOne(p *field.Path, why string, choices ...choice) field.ErrorList {
	if n, _ := count(choices); n == 0 {
		return field.ErrorList{field.Required(p, "set at least one of "+names(choices)+why)}
	}
	return nil
}

// typed reports when the block that is set is not that of the type t. Without a
// type, the block decides.
func typed(p *field.Path, t string, blocks ...struct{ name, t string }) field.ErrorList {
	for _, b := range blocks {
		if t != "" && b.t != t {
			return field.ErrorList{field.Invalid(p.Child("type"), t, fmt.Sprintf("%s is set, so type must be %s", b.name, b.t))}
		}
	}
	return nil
}

// atLeast reports a duration that is written and shorter than least.
func atLeast(p *field.Path, d Duration, least time.Duration) field.ErrorList {
	if d != "" && d.Value() < least {
		return field.ErrorList{field.Invalid(p, string(d), fmt.Sprintf("must be at least %s", short(least)))}
	}
	return nil
}

// short prints d without units that are zero.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	return s
}

// host reports what is neither an IP address nor a DNS name.
func host(p *field.Path, h string) field.ErrorList {
	if h == "" {
		return nil // the schema says so
	}
	invalid := func(detail string) field.ErrorList { return field.ErrorList{field.Invalid(p, h, detail)} }
	if strings.Contains(h, "@") { // what stands before it is a secret, and not repeated
		return invalid("must be a host name or IP address alone, without user and password: a credential belongs in a Secret")
	}
	if _, rest, ok := strings.Cut(h, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		if name, port, err := net.SplitHostPort(rest); err == nil && name != "" && port != "" {
			return invalid(fmt.Sprintf("must be a host name or IP address alone, without scheme: write %s here, and %s as port", name, port))
		}
		return invalid(fmt.Sprintf("must be a host name or IP address alone, without scheme: write %s", rest))
	}
	if _, err := netip.ParseAddr(h); err == nil {
		return nil
	}
	if name, port, err := net.SplitHostPort(h); err == nil && name != "" && port != "" {
		return invalid(fmt.Sprintf("must be a host name or IP address alone: write %s here, and %s as port", name, port))
	}
	if strings.ContainsAny(h, "[]") {
		return invalid("must be an IP address without brackets")
	}
	// Names with underscores are no host names, but resolvers serve them and
	// container networks make them.
	name := strings.ReplaceAll(strings.ToLower(strings.TrimSuffix(h, ".")), "_", "-")
	if len(validation.IsDNS1123Subdomain(strings.Trim(name, "-"))) > 0 {
		return invalid("must be a host name or IP address: letters, digits, - and . only")
	}
	return nil
}

// headerName reports what is not the name of an HTTP header.
func headerName(p *field.Path, name string) field.ErrorList {
	if !httpguts.ValidHeaderFieldName(name) {
		return field.ErrorList{field.Invalid(p, name, "must be the name of an HTTP header: letters, digits and -, without colon and spaces")}
	}
	return nil
}

// headerNames reports what are not names of HTTP headers.
func headerNames(p *field.Path, list []string) field.ErrorList {
	var errs field.ErrorList
	for i, name := range list {
		errs = append(errs, headerName(p.Index(i), name)...)
	}
	return errs
}

// regex reports what is not a regular expression.
func regex(p *field.Path, source string) field.ErrorList {
	if _, err := regexp.Compile(source); err != nil {
		detail := "is not a regular expression in RE2 syntax: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		if strings.Contains(source, "(?=") || strings.Contains(source, "(?!") || strings.Contains(source, "(?<=") || strings.Contains(source, "(?<!") {
			detail += "; look-around is not supported"
		}
		return field.ErrorList{field.Invalid(p, source, detail)}
	}
	return nil
}

// origin reports what is not a browser origin.
func origin(p *field.Path, o string) field.ErrorList {
	if o == "*" || o == "null" {
		return field.ErrorList{field.Invalid(p, o, "must name an origin, such as https://app.example.com: "+o+" would permit any web page")}
	}
	u, err := url.Parse(o)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		detail := "must be an origin, such as https://app.example.com: scheme, host and port, nothing after it"
		if err == nil && u.Scheme != "" && u.Host != "" && u.Path == "/" {
			detail = "must be an origin, without / at the end: write " + u.Scheme + "://" + u.Host
		}
		return field.ErrorList{field.Invalid(p, o, detail)}
	}
	return nil
}

// rules reports what is wrong with a credential beyond its schema.
func (a *AuthToken) rules(p *field.Path) field.ErrorList {
	if a.Inline != "" && a.SecretRef != nil {
		return field.ErrorList{field.Forbidden(p.Child("secretRef"), "set only one of inline and secretRef")}
	}
	switch a.Kind {
	case "":
		return atLeastOne(p, ", or kind: Passthrough", choice{"inline", a.Inline != ""}, choice{"secretRef", a.SecretRef != nil})
	case AuthTokenInline:
		if a.Inline == "" {
			return field.ErrorList{field.Required(p.Child("inline"), "kind Inline needs inline, the token itself")}
		}
		if !httpguts.ValidHeaderFieldValue(string(a.Inline)) || strings.TrimSpace(string(a.Inline)) == "" {
			return field.ErrorList{field.Invalid(p.Child("inline"), a.Inline.String(), "must be a token without line breaks and control characters")}
		}
	case AuthTokenSecretRef:
		if a.SecretRef == nil {
			return field.ErrorList{field.Required(p.Child("secretRef"), "kind SecretRef needs secretRef, the Secret that holds the token")}
		}
	case AuthTokenPassthrough:
		if a.Inline != "" {
			return field.ErrorList{field.Forbidden(p.Child("inline"), "kind Passthrough sends the client's credential: remove inline, or set kind Inline")}
		}
		if a.SecretRef != nil {
			return field.ErrorList{field.Forbidden(p.Child("secretRef"), "kind Passthrough sends the client's credential: remove secretRef, or set kind SecretRef")}
		}
	}
	return nil
}

// rules reports what is wrong with AWS credentials beyond their schema.
func (a *AWSAuth) rules(p *field.Path) field.ErrorList {
	if a != nil && a.SecretRef == nil {
		return field.ErrorList{field.Required(p.Child("secretRef"), "type Secret needs secretRef, the Secret with accessKey and secretKey")}
	}
	return nil
}

// targetRules reports what a policy of kind can't cover.
func targetRules(kind string, refs []PolicyTargetRef, selectors []PolicyTargetSelector, kinds, selectable []string) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	for i, r := range refs {
		errs = append(errs, targetKind(kind, spec.Child("targetRefs").Index(i), r.Kind, r.Group, kinds)...)
	}
	for i, s := range selectors {
		errs = append(errs, targetKind(kind, spec.Child("targetSelectors").Index(i), s.Kind, s.Group, selectable)...)
	}
	return errs
}

// targetKind reports a kind or group that a policy of kind can't cover.
func targetKind(policy string, p *field.Path, kind, group string, kinds []string) field.ErrorList {
	if kind == "" {
		return nil // the schema says so
	}
	for _, k := range kinds {
		if k != kind {
			continue
		}
		m := map[string]any{"kind": kind}
		targetGroup(nil, "", m)
		if want, _ := m["group"].(string); group != "" && group != want {
			return field.ErrorList{field.NotSupported(p.Child("group"), group, []string{want})}
		}
		return nil
	}
	e := field.NotSupported(p.Child("kind"), kind, kinds)
	e.Detail = fmt.Sprintf("a %s covers objects of kind %s", policy, strings.Join(kinds, ", "))
	return field.ErrorList{e}
}
