package gateway

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/mcp/federation"
	"github.com/mcpgw/mcpgw/mcp/session"
	"github.com/mcpgw/mcpgw/upstream"
)

// mcpBackend compiles a Backend of type MCP. Targets that can't be resolved are left
// out; when that leaves none, the Backend answers 500, or 503 when it is for want of
// credentials alone.
func (c *compiler) mcpBackend(o object, b *v1alpha1.Backend, d *destination) {
	spec := b.Spec.MCP
	cfg := federation.Config{
		Name:           o.name.String(),
		MaxNameLength:  int(spec.MaxNameLength),
		FailClosed:     spec.FailureMode == v1alpha1.MCPFailClosed,
		AllowedOrigins: spec.AllowedOrigins,
		ForwardHeaders: spec.ForwardHeaders,
		Version:        c.rt.version(),
	}
	switch spec.PrefixMode {
	case v1alpha1.MCPPrefixConditional:
		cfg.PrefixMode = federation.Conditional
	case v1alpha1.MCPPrefixNever:
		cfg.PrefixMode = federation.Never
	case v1alpha1.MCPPrefixAlways:
		cfg.PrefixMode = federation.Always
	}
	var targets []mcpTarget
	lost, bare := 0, 0 // targets that can't be reached, and that lack a credential
	for i := range spec.Targets {
		t := &spec.Targets[i]
		path := fmt.Sprintf("spec.mcp.targets[%d]", i)
		base := session.TargetConfig{Backend: cfg.Name, Name: t.Name, Timeout: t.Timeout.Value(), Idle: c.rt.callIdle()}
		if !c.credential(o, path+".auth", t.Auth, &base) {
			bare++
			continue
		}
		var found []mcpTarget
		ok := true
		switch {
		case t.Static != nil:
			found, ok = c.staticTarget(o, path+".static", t.Static, base)
		case t.Service != nil:
			found, ok = c.serviceTarget(o, path+".service", t.Service, base)
		case t.Selector != nil:
			found, ok = c.selectorTargets(o, path+".selector", t.Selector, base)
		case t.Stdio != nil:
			found, ok = c.stdioTarget(o, path+".stdio", t.Stdio, base)
		}
		if !ok {
			lost++
		}
		targets = append(targets, found...)
	}
	cfg.Targets = c.distinct(o, targets)
	switch {
	case len(cfg.Targets) == 0 && lost > 0:
		d.fault = misconfigured
		return
	case len(cfg.Targets) == 0 && bare > 0:
		d.fault = withoutCredential
		return
	}
	for i := range cfg.Targets {
		cfg.Targets[i].Identity = identity(&cfg.Targets[i])
	}
	if c.rt != nil {
		c.mcps = append(c.mcps, mcpPlan{c.rt, cfg, d})
	}
}

// An mcpPlan is an MCP Backend that is made once all rules that lead to it are known.
type mcpPlan struct {
	rt  *Runtime
	cfg federation.Config
	to  *destination
}

// makeMCP makes the MCP Backends. What the clients of one see depends on what is attached
// to it and to the rules that lead to it, and on nothing else: others' are not told of it.
func (c *compiler) makeMCP() {
	for i := range c.mcps {
		p := &c.mcps[i]
		namespace, name, _ := strings.Cut(p.cfg.Name, "/")
		var own []string
		for _, a := range c.attached[attachment{kind: v1alpha1.KindBackend, name: types.NamespacedName{Namespace: namespace, Name: name}}] {
			own = append(own, a.shows)
		}
		p.cfg.PolicyFingerprint = fingerprint(slices.Sorted(maps.Keys(p.to.shows)), own)
		backend := p.rt.mcp(p.cfg)
		p.to.backend = backend
		c.snapshot.backends = append(c.snapshot.backends, backend)
	}
}

// withoutCredential is what a Backend answers of which every target lacks its credential.
var withoutCredential = fault.New(fault.UpstreamUnreachable, "no upstream can be used")

// An mcpTarget is a target with the namespace of its Service, "" without one.
type mcpTarget struct {
	session.TargetConfig
	namespace string
}

// credential sets what a target is sent as Authorization; it reports false when that is
// not known, so that nothing is sent without.
func (c *compiler) credential(o object, path string, auth *v1alpha1.AuthToken, t *session.TargetConfig) bool {
	if auth == nil {
		return true
	}
	var token secret.Value
	switch {
	case auth.Kind == v1alpha1.AuthTokenPassthrough:
		t.Passthrough = true
		c.add(o, path+".kind", finding{class: config.Warning, code: config.CodePassthrough},
			"target %q gets the Authorization header of the client", t.Name)
		return true
	case auth.SecretRef != nil:
		if token = c.secretToken(o, path, auth.SecretRef.Name); token.IsZero() {
			return false
		}
	default:
		token = tokenOf(auth.Inline.Secret().Reveal())
		if token.IsZero() {
			c.add(o, path+".inline", finding{class: config.Invalid, code: config.CodeUnresolvedSecret}, "the token is empty")
			return false
		}
	}
	t.AuthHeader = "Authorization"
	t.AuthValue = secret.New("Bearer " + token.Reveal())
	return true
}

// tokenOf returns the token that a credential holds, which may be written as a header
// value.
func tokenOf(s string) secret.Value {
	return secret.New(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s), "Bearer ")))
}

// httpTarget completes a target that is reached over HTTP.
func httpTarget(t session.TargetConfig, host, path string, protocol v1alpha1.MCPProtocol) session.TargetConfig {
	t.Transport = session.StreamableHTTP
	standard := "/mcp"
	if protocol == v1alpha1.MCPSSE {
		t.Transport, standard = session.SSE, "/sse"
	}
	if path == "" {
		path = standard
	}
	t.URL = "http://" + host + path
	return t
}

func (c *compiler) staticTarget(o object, path string, spec *v1alpha1.MCPStaticTarget, t session.TargetConfig) ([]mcpTarget, bool) {
	address := hostPort(spec.Host, spec.Port)
	t = httpTarget(t, address, spec.Path, spec.Protocol)
	id := fmt.Sprintf("%s/%s/%s", o, t.Name, address)
	conn := *c.backendConnection(c.backends[o.name])
	if spec.TLS == nil {
		if conn.broken {
			return nil, false
		}
		if conn.opts.TLS != nil {
			t.URL = "https" + strings.TrimPrefix(t.URL, "http")
		}
		t.RoundTripper = c.connected(&conn, id, upstream.HTTP1, []string{address})
		return []mcpTarget{{TargetConfig: t}}, true
	}
	client, authorities, ok := c.targetTLS(o, path+".tls", spec)
	if !ok {
		return nil, false
	}
	t.URL = "https" + strings.TrimPrefix(t.URL, "http")
	id = fmt.Sprintf("%s/tls/%s/%x", id, client.ServerName, sha256.Sum256(authorities))
	conn.opts.TLS = client // the target knows better than a policy on all of them
	t.RoundTripper = c.connected(&conn, id, upstream.HTTP1, []string{address})
	return []mcpTarget{{TargetConfig: t}}, true
}

// targetTLS returns how a target is reached by https, and the authorities it is checked
// against, nil for the system's. It reports false when those are missing: a server whose
// certificate can't be checked is not asked.
func (c *compiler) targetTLS(o object, path string, spec *v1alpha1.MCPStaticTarget) (client *tls.Config, authorities []byte, ok bool) {
	client = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cmp.Or(spec.TLS.Hostname, spec.Host)}
	if spec.TLS.SecretRef == nil {
		return client, nil, true
	}
	path += ".secretRef.name"
	name := types.NamespacedName{Namespace: o.name.Namespace, Name: spec.TLS.SecretRef.Name}
	s := c.secrets[name]
	if s == nil {
		c.secretNotFound(o, path, name, "Invalid")
		return nil, nil, false
	}
	authorities = s.Data[corev1.ServiceAccountRootCAKey]
	client.RootCAs = x509.NewCertPool()
	if !client.RootCAs.AppendCertsFromPEM(authorities) {
		c.add(o, path, finding{
			class: config.Unresolved, code: config.CodeUnresolvedSecret, help: "the certificates stand under the key ca.crt, in PEM",
		}, "Secret %q has no usable key ca.crt", name.Name)
		return nil, nil, false
	}
	return client, authorities, true
}

func (c *compiler) serviceTarget(o object, path string, spec *v1alpha1.MCPServiceTarget, t session.TargetConfig) ([]mcpTarget, bool) {
	name := types.NamespacedName{Namespace: spec.Namespace, Name: spec.Name}
	if name.Namespace == "" {
		name.Namespace = o.name.Namespace
	}
	grant := reference{from: v1alpha1.KindBackend, fromGroup: v1alpha1.GroupName, to: "Service"}
	if !c.permitted(grant, o.name.Namespace, name.Namespace, name.Name) {
		c.refNotPermitted(o, path, grant, name.Namespace, name.Name)
		return nil, false
	}
	s, p := c.servicePort(o, path, name, spec.Port)
	if p == nil {
		return nil, false
	}
	protocol, _ := mcpProtocol(p)
	if spec.Protocol != "" {
		protocol = spec.Protocol
	}
	at := spec.Path
	if at == "" {
		at = mcpPath(s)
	}
	return c.portTarget(o, path, s, p, at, protocol, t)
}

// portTarget returns the target behind a port of a Service.
func (c *compiler) portTarget(o object, path string, s *corev1.Service, p *corev1.ServicePort, at string, protocol v1alpha1.MCPProtocol, t session.TargetConfig) ([]mcpTarget, bool) {
	conn := c.serviceConnection(s, p)
	addresses, ok := c.endpoints(o, path, s, p)
	if !ok || conn.broken {
		return nil, false
	}
	host := hostPort(s.Name+"."+s.Namespace+".svc", p.Port)
	for _, a := range addresses {
		if at, err := netip.ParseAddrPort(a); err == nil && at.Addr().IsLoopback() {
			host = a // servers on loopback refuse other names, against DNS rebinding
			break
		}
	}
	t = httpTarget(t, host, at, protocol)
	if conn.opts.TLS != nil {
		t.URL = "https" + strings.TrimPrefix(t.URL, "http")
	}
	t.RoundTripper = c.connected(conn, fmt.Sprintf("Service/%s:%d", nameOf(s), p.Port), upstream.HTTP1, addresses)
	return []mcpTarget{{t, s.Namespace}}, true
}

// mcpProtocol returns the transport that the appProtocol of a port marks; ok is false
// when it is not marked as MCP.
func mcpProtocol(p *corev1.ServicePort) (protocol v1alpha1.MCPProtocol, ok bool) {
	if p.AppProtocol != nil {
		switch *p.AppProtocol {
		case "kgateway.dev/mcp", "agentgateway.dev/mcp":
			return v1alpha1.MCPStreamableHTTP, true
		case "kgateway.dev/mcp-sse", "agentgateway.dev/mcp-sse":
			return v1alpha1.MCPSSE, true
		}
	}
	return v1alpha1.MCPStreamableHTTP, false
}

// mcpPath returns the path that a Service's annotation gives, or "".
func mcpPath(s *corev1.Service) string {
	for _, key := range []string{"kgateway.dev/mcp-path", "agentgateway.dev/mcp-path"} {
		if p := s.Annotations[key]; p != "" {
			if p[0] != '/' {
				p = "/" + p
			}
			return p
		}
	}
	return ""
}

// selected returns the marked ports of the Services that a selector selects, the oldest
// Service first.
func (c *compiler) selected(namespace string, spec *v1alpha1.MCPSelectorTarget) (out []selectedPort, err error) {
	inNamespaces := labels.SelectorFromSet(labels.Set{corev1.LabelMetadataName: namespace})
	if spec.Namespace != nil {
		if inNamespaces, err = metav1.LabelSelectorAsSelector(spec.Namespace); err != nil {
			return nil, err
		}
	}
	services := labels.Everything()
	if spec.Service != nil {
		if services, err = metav1.LabelSelectorAsSelector(spec.Service); err != nil {
			return nil, err
		}
	}
	for _, s := range c.res.Services {
		if !services.Matches(labels.Set(s.Labels)) || !inNamespaces.Matches(c.namespaceLabels(s.Namespace)) {
			continue
		}
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			if protocol, ok := mcpProtocol(p); ok {
				name := p.Name
				if name == "" {
					name = strconv.Itoa(int(p.Port))
				}
				out = append(out, selectedPort{s, p, protocol, s.Name + "-" + name})
			}
		}
	}
	return out, nil
}

// A selectedPort is a port of a Service that a selector found.
type selectedPort struct {
	service  *corev1.Service
	port     *corev1.ServicePort
	protocol v1alpha1.MCPProtocol
	name     string // of the target
}

// selectorTargets returns the targets that a selector finds. None is no mistake: they may
// come.
func (c *compiler) selectorTargets(o object, path string, spec *v1alpha1.MCPSelectorTarget, t session.TargetConfig) ([]mcpTarget, bool) {
	found, err := c.selected(o.name.Namespace, spec)
	if err != nil {
		c.add(o, path, finding{class: config.Invalid, code: config.CodeDuplicateItem}, "the selector can't be used: %v", err)
		return nil, false
	}
	if len(found) == 0 {
		c.add(o, path, finding{
			class: config.Warning, code: config.CodeUnresolvedService,
			help: "a Service port is found when its appProtocol is kgateway.dev/mcp or kgateway.dev/mcp-sse",
		}, "the selector finds no Service")
	}
	var out []mcpTarget
	ok := true
	for _, f := range found {
		one := t
		one.Name = f.name
		targets, good := c.portTarget(o, path, f.service, f.port, mcpPath(f.service), f.protocol, one)
		ok = ok && good
		out = append(out, targets...)
	}
	return out, ok
}

// distinct gives targets of the same name names of their own: the first keeps it,
// later ones of another namespace get theirs in front, and what is still the
// same is left out.
func (c *compiler) distinct(o object, targets []mcpTarget) []session.TargetConfig {
	taken := map[string]bool{}
	var out []session.TargetConfig
	for _, t := range targets {
		if taken[t.Name] && t.namespace != "" {
			t.Name = t.namespace + "-" + t.Name
		}
		if taken[t.Name] {
			c.add(o, "spec.mcp.targets", finding{class: config.Unresolved, code: config.CodeDuplicateItem, help: "give one of them another name"},
				"two targets are named %q: the second is left out", t.Name)
			continue
		}
		taken[t.Name] = true
		out = append(out, t.TargetConfig)
	}
	return out
}

func (c *compiler) stdioTarget(o object, path string, spec *v1alpha1.MCPStdioTarget, t session.TargetConfig) ([]mcpTarget, bool) {
	if !c.res.Local {
		c.add(o, path, finding{class: config.Invalid, code: config.CodeInvalidValue, help: "run the server as a Service, and use service or selector"},
			"stdio targets start programs, so they are taken from local files only")
		return nil, false
	}
	t.Transport = session.Stdio
	cmd := &session.Command{Path: spec.Command, Args: spec.Args, Dir: spec.Cwd, PerSession: spec.Sharing == v1alpha1.MCPStdioSession}
	for k, v := range spec.Env {
		cmd.Env = append(cmd.Env, k+"="+v.Secret().Reveal())
	}
	slices.Sort(cmd.Env)
	if !filepath.IsAbs(cmd.Dir) && c.res.Positions != nil {
		if at := c.res.Positions.Find(o.ref(), path); at.File != "" {
			cmd.Dir = filepath.Join(filepath.Dir(at.File), cmd.Dir)
		}
	}
	t.Command = cmd
	return []mcpTarget{{TargetConfig: t}}, true
}

// identity tells targets apart that one running target can't serve both. Secrets
// enter it hashed.
func identity(t *session.TargetConfig) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %q %v %q %q %v %v %d", t.Backend, t.Name, t.Transport, t.URL, t.Passthrough, t.AuthHeader, t.AuthValue.Reveal(), t.Timeout, t.Idle, t.MaxMessage)
	if t.Command != nil {
		fmt.Fprintf(h, " %q %q %q %q %v", t.Command.Path, t.Command.Args, t.Command.Env, t.Command.Dir, t.Command.PerSession)
	}
	return t.Backend + "/" + t.Name + "/" + hex.EncodeToString(h.Sum(nil)[:12])
}

// backendSections returns the names that the sectionName of a policy on a Backend can
// have: its targets or providers.
func (c *compiler) backendSections(b *v1alpha1.Backend) []string {
	var out []string
	if b.Spec.MCP != nil {
		for i := range b.Spec.MCP.Targets {
			t := &b.Spec.MCP.Targets[i]
			if t.Selector == nil {
				out = append(out, t.Name)
				continue
			}
			found, err := c.selected(b.Namespace, t.Selector)
			if err != nil {
				continue // reported where the target is compiled
			}
			for _, f := range found {
				out = append(out, f.name, f.service.Namespace+"-"+f.name)
			}
		}
	}
	if b.Spec.AI != nil {
		for _, g := range b.Spec.AI.PriorityGroups {
			for _, p := range g.Providers {
				out = append(out, p.Name)
			}
		}
	}
	return out
}
