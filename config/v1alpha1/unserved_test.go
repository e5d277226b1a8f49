package v1alpha1

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestUnserved(t *testing.T) {
	const stops = "what this policy covers answers 500, rather than going on without it"
	tests := []struct {
		name, kind, text string
		want             []UnservedField
	}{
		{"an MCP Backend with everything", KindBackend, `
spec:
  mcp:
    prefixMode: Never
    maxNameLength: 64
    failureMode: FailClosed
    allowedOrigins: ["https://a"]
    forwardHeaders: [x-tenant]
    targets:
    - {name: a, timeout: 1s, auth: {kind: Passthrough}, static: {host: h, port: 1, path: /x, protocol: SSE}}
    - {name: b, service: {name: s, port: 1}}
    - {name: c, selector: {service: {}}}
    - {name: d, stdio: {command: c, sharing: Session, env: {A: b}}}`, nil},
		{"a Static Backend over gRPC", KindBackend, `spec: {static: {appProtocol: grpc, hosts: [{host: h, port: 1}]}}`, nil},
		{"a balanced Backend", KindBackend, `spec: {static: {hosts: [{host: h, port: 1}]}, loadBalancer: {type: Random, updateMergeWindow: 2s}, outlierDetection: {}, tcpKeepalive: {}}`, nil},
		{"an AI Backend", KindBackend, `spec: {ai: {llm: {bedrock: {}}}}`, nil}, // package gateway says which providers are served
		{"a Lambda function", KindBackend, `spec: {aws: {accountId: "123456789012", lambda: {functionName: f}}}`, nil},
		{"a dynamic forward proxy", KindBackend, `spec: {type: DynamicForwardProxy}`, nil},
		{"rules", KindTrafficPolicy, `spec: {targetRefs: [{kind: Gateway, name: g}], rbac: {policy: {matchExpressions: ["true"]}}}`, nil},
		{"what protects", KindTrafficPolicy, `
spec:
  ai: {promptGuard: {request: {regex: {builtins: [SSN]}}}, promptEnrichment: {append: [{role: user, content: c}]}, fieldDefaults: [{path: a, value: b}]}
  transformation: {request: {remove: [a]}}
  extAuth: {extensionRef: {name: e}}
  extProc: {extensionRef: {name: e}}
  csrf: {}
  headerModifiers: {request: {remove: [a]}}
  buffer: {maxRequestSize: 1Ki}`, nil},
		{"a global limit", KindTrafficPolicy, `spec: {rateLimit: {global: {extensionRef: {name: e}, descriptors: [{entries: [{type: Path}]}]}}}`, nil},
		{"limits of this process", KindTrafficPolicy, `spec: {rateLimit: {local: {tokenBucket: {maxTokens: 1, fillInterval: 1s}}, rateLimits: [{actions: [{path: {}}], limit: {requestsPerUnit: 1, unit: Second}}]}}`, nil},
		{"limits of a service", KindTrafficPolicy, `spec: {rateLimit: {rateLimits: [{actions: [{path: {}}], limit: {requestsPerUnit: 1, unit: Second}}, {actions: [{path: {}}]}]}}`, nil},
		{"what only switches off", KindTrafficPolicy, `spec: {rateLimit: {local: {}}, extAuth: {disable: {}}, extProc: {disable: {}}, cors: {disable: {}}, buffer: {disable: {}}, autoHostRewrite: false}`, nil},
		{"what is served", KindTrafficPolicy, `spec: {cors: {allowOrigins: ["*"]}, autoHostRewrite: true, timeouts: {request: 1s, streamIdle: 1s}, retry: {}}`, nil},
		{"listeners", KindHTTPListenerPolicy, `
spec:
  accessLog: [{fileSink: {path: p}}]
  tracing: {provider: {otel: {grpcAddress: "c:1"}}, verbose: true}
  upgradeConfig: {enabledUpgrades: [websocket]}
  useRemoteAddress: false
  xffNumTrustedHops: 1
  serverHeaderTransformation: Overwrite
  streamIdleTimeout: 1s
  idleTimeout: 1s
  healthCheck: {path: /}
  preserveHttp1HeaderCase: true
  acceptHttp10: true`, nil},
		{"how backends are reached", KindBackendConfigPolicy, `
spec:
  loadBalancer: {type: Random, localityType: WeightedLb}
  outlierDetection: {}
  tcpKeepalive: {}
  connectTimeout: 1s
  perConnectionBufferLimitBytes: 1
  commonHttpProtocolOptions: {idleTimeout: 1s, maxRequestsPerConnection: 3}
  tls: {wellKnownCACertificates: System}
  healthCheck: {timeout: 1s, interval: 1s, unhealthyThreshold: 1, healthyThreshold: 1, grpc: {}}`, nil},
		{"a direct response", KindDirectResponse, `spec: {status: 200}`, nil},
		{"an extension", KindGatewayExtension, `spec: {rateLimit: {domain: d, grpcService: {backendRef: {name: s}}}}`, nil},
		{"an external processor", KindGatewayExtension, `spec: {extProc: {metadataOptions: {forwarding: {typed: [a], untyped: [b]}}, grpcService: {backendRef: {name: s}, requestTimeout: 1s, retry: {}}}}`, []UnservedField{
			{"spec.extProc.metadataOptions.forwarding.typed", false, "extProc.metadataOptions.forwarding.typed is not served yet: there is no typed metadata to send"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := object(t, tt.text)
			Normalize(tt.kind, obj)
			o, errs := Parse(tt.kind, obj)
			if errs != nil {
				t.Fatal(errs)
			}
			if diff := cmp.Diff(tt.want, Unserved(o)); diff != "" {
				t.Errorf("unserved fields (-want +got):\n%s", diff)
			}
		})
	}
	if got := Unserved(&corev1.Secret{}); got != nil {
		t.Errorf("of another API's object: %v", got)
	}
}

// TestUnservedFields shows that the list names fields that exist.
func TestUnservedFields(t *testing.T) {
	for _, u := range unservedFields() {
		if schemaAt(kindSchema(u.kind), u.path) == nil {
			t.Errorf("%s has no field %s", u.kind, u.path)
		}
		if u.protects == (u.effect != "") {
			t.Errorf("%s %s: what protects fails closed, and only what does not has an effect of its own", u.kind, u.path)
		}
	}
}
