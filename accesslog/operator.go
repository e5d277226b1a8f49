package accesslog

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/mcpgw/mcpgw/policy"
	"github.com/mcpgw/mcpgw/telemetry"
)

// An operator yields one value of an entry.
type operator func(*Entry) value

// asksAnswer reports whether an operator asks for the header of the answer.
func asksAnswer(name string) bool {
	return name == "RESP" || name == "TRAILER" || strings.HasPrefix(name, "GRPC_STATUS") || name == "RESPONSE_HEADERS_BYTES"
}

// newOperator compiles one command operator; has says that there is an argument, if an empty one.
func newOperator(name, argument string, has bool) (operator, error) {
	if make, ok := withArgument()[name]; ok {
		return make(argument, has)
	}
	op, ok := plain()[name]
	switch {
	case !ok:
		return nil, &OperatorError{Name: name}
	case has:
		return nil, fmt.Errorf("%%%s%% takes no argument", name)
	default:
		return op, nil
	}
}

// An OperatorError says that there is no command operator of that name.
type OperatorError struct{ Name string }

// Error implements error.
func (e *OperatorError) Error() string { return "there is no command operator %" + e.Name + "%" }

// Operators returns the names of all command operators, sorted.
func Operators() []string {
	var out []string
	for name := range plain() {
		out = append(out, name)
	}
	for name := range withArgument() {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// withArgument are the operators that take an argument.
func withArgument() map[string]func(argument string, has bool) (operator, error) {
	return map[string]func(string, bool) (operator, error){
		"START_TIME": func(format string, _ bool) (operator, error) {
			t, err := newTimeFormat(format)
			return func(e *Entry) value { return textOf(t.format(e.Start), !e.Start.IsZero()) }, err
		},
		"EMIT_TIME": func(format string, _ bool) (operator, error) {
			t, err := newTimeFormat(format)
			return func(*Entry) value { return textOf(t.format(time.Now()), true) }, err
		},
		"REQ":     headerOperator("REQ", func(e *Entry, name string) (string, bool) { return e.requestHeader(name) }),
		"RESP":    headerOperator("RESP", responseHeader),
		"TRAILER": headerOperator("TRAILER", func(e *Entry, name string) (string, bool) { return join(e.Header[http.TrailerPrefix+name]) }),
		"GRPC_STATUS": func(form string, _ bool) (operator, error) {
			names, ok := map[string]func(int) string{"": camel, "CAMEL_STRING": camel, "SNAKE_STRING": snake, "NUMBER": nil}[form]
			if !ok {
				return nil, fmt.Errorf("%%GRPC_STATUS(%s)%%: write CAMEL_STRING, SNAKE_STRING or NUMBER", form)
			}
			return func(e *Entry) value {
				n, ok := e.grpcStatus()
				switch {
				case !ok:
					return value{}
				case names == nil || n >= len(grpcStatuses):
					return numberOf(int64(n))
				default:
					return textOf(names(n), true)
				}
			}, nil
		},
		"DYNAMIC_METADATA": func(path string, has bool) (operator, error) {
			if !has || path == "" {
				return nil, fmt.Errorf("%%DYNAMIC_METADATA%% needs an argument, such as mcpgw:llm:request_model")
			}
			return metadata(strings.Split(path, ":")), nil
		},
		"FILTER_STATE": func(string, bool) (operator, error) { return func(*Entry) value { return value{} }, nil },
		"ENVIRONMENT": func(name string, has bool) (operator, error) {
			if !has || name == "" {
				return nil, fmt.Errorf("%%ENVIRONMENT%% needs the name of a variable as its argument")
			}
			v := os.Getenv(name)
			return func(*Entry) value { return textOf(v, true) }, nil
		},
		"CEL": func(source string, has bool) (operator, error) {
			if !has {
				return nil, fmt.Errorf("%%CEL%% needs an expression as its argument")
			}
			v, err := policy.CompileValue(source, false)
			if err != nil {
				return nil, fmt.Errorf("%%CEL(%s)%%: %w", source, err)
			}
			return func(e *Entry) value { return anyOf(e.value(v)) }, nil
		},
	}
}

// headerOperator returns what compiles an operator on headers: X, or X?Y, which is Y where there is no X.
func headerOperator(op string, of func(*Entry, string) (string, bool)) func(string, bool) (operator, error) {
	return func(argument string, has bool) (operator, error) {
		first, second, both := strings.Cut(argument, "?")
		names := []string{first}
		if both {
			names = append(names, second)
		}
		for i, name := range names {
			pseudo := strings.HasPrefix(name, ":")
			switch {
			case !has || !httpguts.ValidHeaderFieldName(strings.TrimPrefix(name, ":")):
				return nil, fmt.Errorf("%%%s(%s)%%: the argument is the name of a header, or two with ? between them", op, argument)
			case pseudo && !slices.Contains([]string{":METHOD", ":PATH", ":AUTHORITY", ":SCHEME", ":STATUS"}, strings.ToUpper(name)):
				return nil, fmt.Errorf("%%%s(%s)%%: there is no pseudo-header %s", op, argument, name)
			case pseudo:
				names[i] = strings.ToUpper(name)
			default:
				names[i] = http.CanonicalHeaderKey(name)
			}
		}
		return func(e *Entry) value {
			for _, name := range names {
				if v, ok := of(e, name); ok {
					if !telemetry.MayTag(name) || name == "Set-Cookie" {
						v = "[redacted]"
					}
					return textOf(v, true)
				}
			}
			return value{}
		}, nil
	}
}

func responseHeader(e *Entry, name string) (string, bool) {
	if name == ":STATUS" {
		return strconv.Itoa(e.Status), e.Status > 0
	}
	return join(e.Header[name])
}

// plain are the operators without an argument.
func plain() map[string]operator {
	ops := map[string]operator{
		"RESPONSE_CODE":         func(e *Entry) value { return numberOf(int64(e.Status)) },
		"RESPONSE_CODE_DETAILS": func(e *Entry) value { return textOf(e.details(), true) },
		"RESPONSE_FLAGS": func(e *Entry) value {
			return textOf(flagNames(e, func(f flag) string { return f.short }))
		},
		"RESPONSE_FLAGS_LONG": func(e *Entry) value {
			return textOf(flagNames(e, func(f flag) string { return f.long }))
		},
		"DURATION":                          func(e *Entry) value { return numberOf(e.Duration.Milliseconds()) },
		"REQUEST_DURATION":                  func(e *Entry) value { return between(e.Start, e.BodyEnd) },
		"RESPONSE_DURATION":                 func(e *Entry) value { return between(e.Start, e.FirstByte) },
		"RESPONSE_TX_DURATION":              func(e *Entry) value { return between(e.FirstByte, e.Start.Add(e.Duration)) },
		"BYTES_RECEIVED":                    func(e *Entry) value { return numberOf(e.BytesRead) },
		"BYTES_SENT":                        func(e *Entry) value { return numberOf(e.BytesSent) },
		"REQUEST_HEADERS_BYTES":             func(e *Entry) value { return numberOf(requestHeaderBytes(e)) },
		"RESPONSE_HEADERS_BYTES":            func(e *Entry) value { return numberOf(headerBytes(e.Header)) },
		"PROTOCOL":                          func(e *Entry) value { return textOf(protocol(e)) },
		"UPSTREAM_HOST":                     func(e *Entry) value { return textOf(e.UpstreamHost, true) },
		"UPSTREAM_LOCAL_ADDRESS":            none,
		"UPSTREAM_CLUSTER":                  func(e *Entry) value { return textOf(e.Cluster, true) },
		"UPSTREAM_REQUEST_ATTEMPT_COUNT":    func(e *Entry) value { return numberOf(int64(e.Attempts)) },
		"UPSTREAM_TRANSPORT_FAILURE_REASON": func(e *Entry) value { return textOf(failure(e)) },
		"CONNECTION_ID":                     none,
		"STREAM_ID":                         func(e *Entry) value { return textOf(e.RequestID, true) },
		"UNIQUE_ID":                         func(e *Entry) value { return textOf(e.RequestID, true) },
		"ROUTE_NAME":                        func(e *Entry) value { return textOf(strings.ReplaceAll(e.Route+"/"+e.Rule, "/", "-"), e.Route != "") },
		"VIRTUAL_CLUSTER_NAME":              none,
		"GRPC_STATUS_NUMBER": func(e *Entry) value {
			if n, ok := e.grpcStatus(); ok {
				return numberOf(int64(n))
			}
			return value{}
		},
		"TRACE_ID":                       func(e *Entry) value { return textOf(e.Record.TraceID(), true) },
		"HOSTNAME":                       func(*Entry) value { return textOf(hostname()) },
		"LOCAL_REPLY_BODY":               func(e *Entry) value { return textOf(e.Reply, true) },
		"CONNECTION_TERMINATION_DETAILS": none,
	}
	for name, of := range map[string]func(*Entry) (netip.AddrPort, bool){
		"DOWNSTREAM_REMOTE":        func(e *Entry) (netip.AddrPort, bool) { return e.Source, e.Source.IsValid() },
		"DOWNSTREAM_DIRECT_REMOTE": (*Entry).remote,
		"DOWNSTREAM_LOCAL":         (*Entry).local,
		"UPSTREAM_REMOTE": func(e *Entry) (netip.AddrPort, bool) {
			a, err := netip.ParseAddrPort(e.UpstreamHost)
			return a, err == nil
		},
	} {
		ops[name+"_ADDRESS"] = func(e *Entry) value {
			a, ok := of(e)
			return textOf(a.String(), ok)
		}
		ops[name+"_ADDRESS_WITHOUT_PORT"] = func(e *Entry) value {
			a, ok := of(e)
			return textOf(a.Addr().String(), ok)
		}
		ops[name+"_PORT"] = func(e *Entry) value {
			if a, ok := of(e); ok {
				return numberOf(int64(a.Port()))
			}
			return value{}
		}
	}
	ops["UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT"], ops["UPSTREAM_LOCAL_PORT"] = none, none
	for name, of := range map[string]func(*tls.ConnectionState) string{
		"REQUESTED_SERVER_NAME": func(s *tls.ConnectionState) string { return s.ServerName },
		"DOWNSTREAM_TLS_VERSION": func(s *tls.ConnectionState) string {
			return strings.Replace(tls.VersionName(s.Version), "TLS 1", "TLSv1", 1)
		},
		"DOWNSTREAM_TLS_CIPHER":   func(s *tls.ConnectionState) string { return tls.CipherSuiteName(s.CipherSuite) },
		"DOWNSTREAM_PEER_SUBJECT": ofPeer(func(c *x509.Certificate) string { return c.Subject.String() }),
		"DOWNSTREAM_PEER_ISSUER":  ofPeer(func(c *x509.Certificate) string { return c.Issuer.String() }),
		"DOWNSTREAM_PEER_URI_SAN": ofPeer(func(c *x509.Certificate) string {
			var uris []string
			for _, u := range c.URIs {
				uris = append(uris, u.String())
			}
			return strings.Join(uris, ",")
		}),
		"DOWNSTREAM_PEER_FINGERPRINT_256": ofPeer(func(c *x509.Certificate) string {
			sum := sha256.Sum256(c.Raw)
			return hex.EncodeToString(sum[:])
		}),
	} {
		ops[name] = func(e *Entry) value {
			if e.Request == nil || e.Request.TLS == nil {
				return value{}
			}
			return textOf(of(e.Request.TLS), true)
		}
	}
	return ops
}

// none is what is not known here.
func none(*Entry) value { return value{} }

func ofPeer(of func(*x509.Certificate) string) func(*tls.ConnectionState) string {
	return func(s *tls.ConnectionState) string {
		if len(s.PeerCertificates) == 0 {
			return ""
		}
		return of(s.PeerCertificates[0])
	}
}

func flagNames(e *Entry, name func(flag) string) (string, bool) {
	var names []string
	for _, f := range e.flags() {
		names = append(names, name(f))
	}
	return strings.Join(names, ","), true
}

func between(from, to time.Time) value {
	if from.IsZero() || to.IsZero() || to.Before(from) {
		return value{}
	}
	return numberOf(to.Sub(from).Milliseconds())
}

func requestHeaderBytes(e *Entry) int64 {
	r := e.Request
	if r == nil {
		return 0
	}
	return headerBytes(r.Header) + int64(len(r.Method)+len(r.RequestURI)+len(r.Host))
}

func headerBytes(h http.Header) (n int64) {
	for name, values := range h {
		for _, v := range values {
			n += int64(len(name) + len(v) + len(": \r\n"))
		}
	}
	return n
}

func protocol(e *Entry) (string, bool) {
	if e.Request == nil {
		return "", false
	}
	return strings.TrimSuffix(e.Request.Proto, "2.0") + map[bool]string{true: "2"}[e.Request.ProtoMajor == 2], true
}

// failure says what went wrong on the way to the upstream.
func failure(e *Entry) (string, bool) {
	if e.Err == nil || !strings.HasPrefix(e.ErrorType, "upstream_") {
		return "", false
	}
	return e.Err.Error(), true
}

func snake(n int) string { return grpcStatuses[n] }

func camel(n int) string {
	if n == 0 {
		return "OK"
	}
	var b strings.Builder
	for word := range strings.SplitSeq(grpcStatuses[n], "_") {
		b.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return b.String()
}

func hostname() (string, bool) {
	name, err := os.Hostname()
	return name, err == nil
}

// metadata returns the operator of what is known of an operation of MCP or a language model, under mcpgw:mcp and
// mcpgw:llm, and of what services tell of the request, by namespace.
func metadata(path []string) operator {
	switch {
	case path[0] != "mcpgw":
		return func(e *Entry) value {
			if e.Policy == nil {
				return value{}
			}
			return anyOf(e.Policy.Metadata.Find(path[0], path[1:]...))
		}
	case len(path) < 2:
		return none
	}
	fields := map[string]map[string]operator{
		"mcp": {
			"method":   func(e *Entry) value { return textOf(e.MCP.Method, true) },
			"target":   func(e *Entry) value { return textOf(e.MCP.Target, true) },
			"name":     func(e *Entry) value { return textOf(e.MCP.Name, true) },
			"resource": func(e *Entry) value { return textOf(e.MCP.URI, true) },
			"version":  func(e *Entry) value { return textOf(e.MCP.ProtocolVersion, true) },
		},
		"llm": {
			"operation":      func(e *Entry) value { return textOf(e.LLM.Operation, true) },
			"provider":       func(e *Entry) value { return textOf(e.LLM.Provider, true) },
			"request_model":  func(e *Entry) value { return textOf(e.LLM.RequestModel, true) },
			"response_model": func(e *Entry) value { return textOf(e.LLM.ResponseModel, true) },
			"input_tokens":   func(e *Entry) value { return tokens(e, e.LLM.Usage.Input) },
			"output_tokens":  func(e *Entry) value { return tokens(e, e.LLM.Usage.Output) },
		},
	}[path[1]]
	if len(path) == 3 {
		if op, ok := fields[path[2]]; ok {
			return op
		}
		return none
	}
	if len(path) > 3 || fields == nil {
		return none
	}
	return func(e *Entry) value {
		all := map[string]any{}
		for name, op := range fields {
			switch v := op(e); v.kind {
			case text:
				all[name] = v.text
			case number:
				all[name] = v.number
			case missing, other:
			}
		}
		return anyOf(all, len(all) > 0)
	}
}

func tokens(e *Entry, n int64) value {
	if !e.LLM.Usage.Known {
		return value{}
	}
	return numberOf(n)
}
