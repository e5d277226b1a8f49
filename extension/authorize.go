package extension

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A Question is a request that a service is asked about.
type Question struct {
	HTTP        *http.Request // its body is not read
	Scheme      string
	Source      netip.AddrPort // the client
	Destination netip.AddrPort // where it was accepted; may be invalid
	ID          string         // of the request
	Time        time.Time      // when it was accepted

	// Hidden are headers that hold credentials for the gateway itself, by their canonical names. The service gets those
	// that it is to get by name, and else none of them.
	Hidden []string
	// Body is what of the body the service gets, nil for none; Partial says that there is more of it.
	Body    []byte
	Partial bool
	// Claims are those of a token that was verified, as a JSON object; nil without.
	Claims []byte
	// Context is what the configuration adds.
	Context map[string]string
}

// An Authorization is what a service said of a request.
type Authorization struct {
	Allowed bool

	// What is changed in a request that is allowed, and in the answer to it.
	Headers  []HeaderChange
	Query    []QueryChange
	Response []HeaderChange

	// What is answered to a request that is not allowed.
	Status int // 200 to 599; 0 when the service does not say what to answer
	Header http.Header
	Body   []byte

	// Metadata is what the service tells of the request, the members of a JSON object.
	Metadata map[string]any
}

// An Authorizer asks a service whether requests may proceed. Its errors say that the service can't be asked, has failed or
// has answered what can't be used. It is safe for concurrent use.
type Authorizer interface {
	Authorize(ctx context.Context, q *Question) (*Authorization, error)
}

// errWrong is in the chain of errors about answers that can't be used.
var errWrong = errors.New("the service's answer can't be used")

func wrongf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errWrong, fmt.Sprintf(format, args...))
}

// A GRPCAuthorizer asks a service envoy.service.auth.v3.Authorization.
type GRPCAuthorizer struct {
	check func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error)
	// forward are the canonical names of the headers that the service gets; nil is all.
	forward []string
	// packAsBytes sends bodies as bytes and not as text.
	packAsBytes bool
}

// NewGRPCAuthorizer returns an Authorizer that asks s. The service gets the headers of forward, or all of them when it is empty, and
// bodies as bytes if packAsBytes says so, else as text.
func NewGRPCAuthorizer(s *Service, forward []string, packAsBytes bool) *GRPCAuthorizer {
	return &GRPCAuthorizer{
		check:   Unary[authv3.CheckRequest, authv3.CheckResponse](s, authv3.Authorization_Check_FullMethodName),
		forward: canonical(forward), packAsBytes: packAsBytes,
	}
}

// canonical returns the canonical forms of header names.
func canonical(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, http.CanonicalHeaderKey(n))
	}
	return out
}

// Authorize implements [Authorizer].
func (g *GRPCAuthorizer) Authorize(ctx context.Context, q *Question) (*Authorization, error) {
	a, err := g.check(ctx, g.request(q))
	if err != nil {
		return nil, err
	}
	return read(a)
}

// request returns the question in Envoy's form.
func (g *GRPCAuthorizer) request(q *Question) *authv3.CheckRequest {
	r := q.HTTP
	h := &authv3.AttributeContext_HttpRequest{
		Id: q.ID, Method: r.Method, Headers: g.headers(q), Path: text(r.URL.RequestURI()), Host: text(r.Host), Scheme: q.Scheme,
		Size: r.ContentLength, Protocol: protocolOf(r),
	}
	if q.Body != nil && g.packAsBytes {
		h.RawBody = q.Body
	} else if q.Body != nil {
		h.Body = text(string(q.Body))
	}
	out := &authv3.AttributeContext{
		Source:            &authv3.AttributeContext_Peer{Address: address(q.Source)},
		Destination:       &authv3.AttributeContext_Peer{Address: address(q.Destination)},
		Request:           &authv3.AttributeContext_Request{Time: timestamppb.New(q.Time), Http: h},
		ContextExtensions: q.Context,
		MetadataContext:   &corev3.Metadata{},
	}
	if r.TLS != nil {
		out.TlsSession = &authv3.AttributeContext_TLSSession{Sni: r.TLS.ServerName}
		if len(r.TLS.VerifiedChains) > 0 {
			out.Source.Principal = principal(r.TLS.PeerCertificates[0])
		}
	}
	if q.Claims != nil {
		payload := new(structpb.Struct)
		if protojson.Unmarshal(q.Claims, payload) == nil { // they were read as strictly before
			out.MetadataContext.FilterMetadata = map[string]*structpb.Struct{
				"envoy.filters.http.jwt_authn": {Fields: map[string]*structpb.Value{"payload": structpb.NewStructValue(payload)}},
			}
		}
	}
	return &authv3.CheckRequest{Attributes: out}
}

// headers returns the headers that the service gets, as Envoy writes them: in lower case, the values of one joined by commas, those of
// Cookie by semicolons.
func (g *GRPCAuthorizer) headers(q *Question) map[string]string {
	r := q.HTTP
	out := make(map[string]string, len(r.Header)+5)
	add := func(name, value string) {
		if g.forward == nil || slices.Contains(g.forward, http.CanonicalHeaderKey(name)) {
			out[name] = text(value)
		}
	}
	add(":authority", r.Host)
	add(":method", r.Method)
	add(":path", r.URL.RequestURI())
	add(":scheme", q.Scheme)
	for name, values := range r.Header {
		if g.forward == nil && slices.Contains(q.Hidden, name) {
			continue
		}
		separator := ","
		if name == "Cookie" {
			separator = "; "
		}
		add(strings.ToLower(name), strings.Join(values, separator))
	}
	if q.Body != nil {
		out["x-envoy-auth-partial-body"] = "false"
		if q.Partial {
			out["x-envoy-auth-partial-body"] = "true"
		}
	}
	return out
}

// text returns s with what is no UTF-8 replaced by !, as Envoy does.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "!")
}

// protocolOf names the version of HTTP as Envoy does.
func protocolOf(r *http.Request) string {
	if r.ProtoMajor == 2 {
		return "HTTP/2"
	}
	return r.Proto
}

func address(a netip.AddrPort) *corev3.Address {
	if !a.IsValid() {
		return nil
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

// principal returns who a certificate is for: its first URI, or its first DNS name, or its subject.
func principal(c *x509.Certificate) string {
	switch {
	case len(c.URIs) > 0:
		return text(c.URIs[0].String())
	case len(c.DNSNames) > 0:
		return text(c.DNSNames[0])
	default:
		return text(c.Subject.String())
	}
}

// read reads an answer in Envoy's form.
func read(a *authv3.CheckResponse) (*Authorization, error) {
	if e := a.GetErrorResponse(); e != nil {
		return nil, fmt.Errorf("the service says that it has failed, with status %d", e.GetStatus().GetCode())
	}
	out := &Authorization{Metadata: metadataOf(a)}
	denied := a.GetDeniedResponse()
	if a.GetStatus().GetCode() != int32(code.Code_OK) || denied != nil { // what contradicts itself does not allow
		if denied != nil {
			out.deny(denied)
		}
		return out, nil
	}
	out.Allowed = true
	ok := a.GetOkResponse()
	var request, response changes
	request.addOptions(ok.GetHeaders(), Overwrite)
	for _, name := range ok.GetHeadersToRemove() {
		request.add(name, "", Remove)
	}
	response.addOptions(ok.GetResponseHeadersToAdd(), Append)
	out.Headers, out.Response = request.list, response.list
	for _, p := range ok.GetQueryParametersToSet() {
		out.Query = append(out.Query, QueryChange{Key: p.GetKey(), Value: p.GetValue()})
	}
	for _, key := range ok.GetQueryParametersToRemove() {
		out.Query = append(out.Query, QueryChange{Key: key, Remove: true})
	}
	return out, errors.Join(request.wrong, response.wrong, checkQuery(out.Query))
}

// checkQuery returns an error for changes over the limits.
func checkQuery(list []QueryChange) error {
	size := 0
	for i := range list {
		size += len(list[i].Key) + len(list[i].Value)
	}
	if len(list) > maxChanges || size > maxChangeBytes {
		return wrongf("more than %d changes of the query, or %d bytes of them", maxChanges, maxChangeBytes)
	}
	return nil
}

// metadataOf returns what the service tells of the request.
func metadataOf(a *authv3.CheckResponse) map[string]any {
	s := a.GetDynamicMetadata()
	if old := a.GetOkResponse().GetDynamicMetadata(); old != nil { //nolint:staticcheck // services still say it
		s = old
	}
	return membersOf(s)
}

// membersOf returns the members of an object; nil for none.
func membersOf(s *structpb.Struct) map[string]any {
	if len(s.GetFields()) == 0 {
		return nil
	}
	return s.AsMap()
}

// deny sets what is answered. A refusal stands whatever is wrong with its form: headers that HTTP does not permit are
// left out.
func (a *Authorization) deny(d *authv3.DeniedHttpResponse) {
	a.Status, a.Header = int(d.GetStatus().GetCode()), http.Header{}
	if a.Status < 200 || a.Status > 599 {
		a.Status = defaultDenied
	}
	for _, o := range d.GetHeaders() {
		var one changes
		one.addOptions([]*corev3.HeaderValueOption{o}, Append)
		for i := range one.list {
			one.list[i].ApplyTo(a.Header)
		}
	}
	a.Body = []byte(d.GetBody())
	if len(a.Body) > 0 && a.Header["Content-Type"] == nil {
		a.Header["Content-Type"] = []string{textContentType}
	}
}
