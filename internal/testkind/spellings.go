package testkind

// A Spelling is one object in the spelling of the Go types and in others, as YAML without
// apiVersion and kind.
type Spelling struct {
	Name, Kind, Canonical string
	Others                []string
}

// Spellings has at least one pair for each row of spellings.
func Spellings() []Spelling {
	return []Spelling{
		{"a backend of two providers", "Backend", `
metadata: {name: llm-backend}
spec:
  type: AI
  ai:
    priorityGroups:
    - providers: [{name: primary, openai: {authToken: {kind: SecretRef, secretRef: {name: openai-secret}}, model: gpt-4}}]
    - providers: [{name: fallback, anthropic: {authToken: {kind: SecretRef, secretRef: {name: anthropic-secret}}, model: claude-3-sonnet}}]`, []string{`
metadata: {name: llm-backend}
spec:
  ai:
    groups:
    - providers: [{name: primary, openai: {authToken: {secretRef: {name: openai-secret}}, model: gpt-4}}]
    - providers: [{name: fallback, anthropic: {authToken: {secretRef: {name: anthropic-secret}}, model: claude-3-sonnet}}]`,
		}},
		{"its policy", "TrafficPolicy", `
metadata: {name: llm-policy}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: llm-route}]
  rbac: {policy: {matchExpressions: ["has(request.headers['x-api-key'])"]}}
  ai:
    promptGuard:
      request: {regex: {action: REJECT, builtins: [CREDIT_CARD, SSN]}}
      response: {regex: {action: MASK, builtins: [CREDIT_CARD, EMAIL]}}`, []string{`
metadata: {name: llm-policy}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: llm-route}]
  rbac: {policy: {matchExpressions: ["has(request.headers['x-api-key'])"]}}
  ai:
    promptGuard:
      request: {regex: {action: REJECT, builtins: [CreditCard, Ssn]}}
      response: {regex: {action: MASK, builtins: [CREDIT_CARD, EMAIL]}}`,
		}},
		{"type of a Backend", "Backend", `spec: {type: Static, static: {hosts: [{host: a, port: 80}]}}`, []string{
			`spec: {static: {hosts: [{host: a, port: 80}]}}`,
			`spec: {type: STATIC, static: {hosts: [{host: a, port: 80}]}}`,
		}},
		{"a dynamic forward proxy without block", "Backend", `spec: {type: DynamicForwardProxy, dynamicForwardProxy: {}}`, []string{
			`spec: {type: DynamicForwardProxy}`,
			`spec: {type: dynamic_forward_proxy}`,
			`spec: {dynamicForwardProxy: {}}`,
		}},
		{"vendor keys", "Backend", `
spec: {type: AI, ai: {llm: {azureOpenAI: {authToken: {kind: SecretRef, secretRef: {name: s}}, endpoint: e, deploymentName: d, apiVersion: v1}}}}`, []string{
			`spec: {ai: {llm: {azureOpenai: {authToken: {secretRef: {name: s}}, endpoint: e, deploymentName: d, apiVersion: v1}}}}`,
			`spec: {ai: {llm: {azureopenai: {authToken: {kind: secretref, secretRef: {name: s}}, endpoint: e, deploymentName: d, apiVersion: v1}}}}`,
			`spec: {ai: {provider: {azure_open_ai: {authToken: {secretRef: {name: s}}, endpoint: e, deploymentName: d, apiVersion: v1}}}}`,
			`spec: {ai: {llm: {provider: {azureopenai: {authToken: {secretRef: {name: s}}, endpoint: e, deploymentName: d, apiVersion: v1}}}}}`,
		}},
		{"Vertex AI", "Backend", `
spec: {type: AI, ai: {llm: {vertexAI: {authToken: {kind: Inline, inline: t}, model: m, project: p, location: global}}}}`, []string{
			`spec: {ai: {llm: {vertexAi: {authToken: {inline: t}, model: m, project: p, location: global}}}}`,
			`spec: {ai: {llm: {vertexai: {authToken: {inline: t}, model: m, projectId: p, region: global}}}}`,
		}},
		{"priority groups", "Backend", `
spec: {type: AI, ai: {priorityGroups: [{providers: [{name: a, openai: {authToken: {kind: Passthrough}}}]}, {providers: [{name: b, anthropic: {authToken: {kind: Passthrough}}}]}]}}`, []string{
			`spec: {ai: {groups: [{providers: [{name: a, openAI: {authToken: {kind: passthrough}}}]}, {providers: [{name: b, anthropic: {authToken: {kind: Passthrough}}}]}]}}`,
			`spec: {ai: {multipool: {priorities: [{pool: [{name: a, provider: {openai: {authToken: {kind: Passthrough}}}}]}, {pool: [{name: b, anthropic: {authToken: {kind: Passthrough}}}]}]}}}`,
		}},
		{"AWS credentials", "Backend", `
spec: {type: AWS, aws: {accountId: "123456789012", auth: {type: Secret, secretRef: {name: s}}, lambda: {functionName: f, invocationMode: Async}}}`, []string{
			`spec: {aws: {accountId: "123456789012", auth: {secretRef: {name: s}}, lambda: {functionName: f, invocationMode: ASYNC}}}`,
		}},
		{"an MCP Service", "Backend", `
spec: {type: MCP, mcp: {prefixMode: Never, targets: [{name: t, service: {name: s, namespace: ns1, port: 80, path: /x, protocol: SSE}}]}}`, []string{
			`spec: {mcp: {prefixMode: never, targets: [{name: t, static: {backendRef: {name: s, namespace: ns1, port: 80}, path: /x, protocol: sse}}]}}`,
			`spec: {mcp: {prefixMode: NEVER, targets: [{name: t, static: {backendRef: {kind: Service, group: "", name: s, namespace: ns1, port: 80}, path: /x, protocol: SSE}}]}}`,
		}},
		{"an MCP selector", "Backend", `
spec: {type: MCP, mcp: {targets: [{name: t, auth: {kind: SecretRef, secretRef: {name: s}}, selector: {namespace: {matchLabels: {a: b}}, service: {matchLabels: {c: d}}}}]}}`, []string{
			`spec: {mcp: {targets: [{name: t, auth: {secretRef: {name: s}}, selector: {namespaces: {matchLabels: {a: b}}, services: {matchLabels: {c: d}}}}]}}`,
		}},
		{"the namespace of a Secret", "Backend", `
metadata: {namespace: ns1}
spec: {type: MCP, mcp: {targets: [{name: t, auth: {kind: SecretRef, secretRef: {name: s}}, static: {host: h, port: 1}}]}}`, []string{`
metadata: {namespace: ns1}
spec: {mcp: {targets: [{name: t, auth: {secretRef: {name: s, namespace: ns1}}, static: {host: h, port: 1}}]}}`,
		}},
		{"targets of a policy", "TrafficPolicy", `
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}, {group: gateway.kgateway.dev, kind: Backend, name: b}]
  targetSelectors: [{group: gateway.networking.k8s.io, kind: Gateway, matchLabels: {a: b}}]
  rbac: {action: Deny, policy: {matchExpressions: ["true"]}}`, []string{`
spec:
  targetRefs: [{kind: HTTPRoute, name: r}, {kind: Backend, name: b}]
  targetSelectors: [{kind: Gateway, matchLabels: {a: b}}]
  rbac: {action: DENY, policy: {matchExpressions: ["true"]}}`,
		}},
		{"fields of AI requests", "TrafficPolicy", `
spec: {ai: {fieldDefaults: [{path: temperature, value: "0.5"}, {path: model, value: m, override: true}]}}`, []string{
			`spec: {ai: {defaults: [{field: temperature, value: "0.5"}, {field: model, value: m, override: true}]}}`,
			`spec: {ai: {defaults: [{field: temperature, value: "0.5"}], overrides: [{field: model, value: m}]}}`,
		}},
		{"prompt guards", "TrafficPolicy", `
spec:
  ai:
    promptGuard:
      request:
        customResponse: {message: "no"}
        regex: {action: REJECT, builtins: [CREDIT_CARD, SSN, CA_SIN], matches: [{pattern: a+}]}
      response:
        regex: {action: MASK, builtins: [CREDIT_CARD, EMAIL, PHONE_NUMBER]}`, []string{`
spec:
  ai:
    promptGuard:
      request:
        customResponse: {message: "no"}
        regex: {action: REJECT, builtins: [CreditCard, Ssn, CaSin], matches: [{pattern: a+}]}
      response:
        regex: {action: MASK, builtins: [CREDIT_CARD, EMAIL, phoneNumber]}`, `
spec:
  ai:
    promptGuard:
      request:
      - response: {message: "no"}
        regex: {action: Reject, builtins: [creditCard, ssn, ca_sin], matches: [a+]}
      response:
      - regex: {action: Mask, builtins: [CreditCard, Email, PhoneNumber]}`,
		}},
		{"rate limit entries", "TrafficPolicy", `
spec:
  rateLimit:
    global: {extensionRef: {name: e}, descriptors: [{entries: [{type: Generic, generic: {key: k, value: v}}, {type: Header, header: x-user}, {type: RemoteAddress}]}]}
    rateLimits: [{actions: [{genericKey: {descriptorValue: prod}}, {type: Header, header: x-user}], limit: {requestsPerUnit: 3, unit: Minute}}]`, []string{`
spec:
  rateLimit:
    global: {extensionRef: {name: e}, descriptors: [{entries: [{generic: {key: k, value: v}}, {header: x-user}, {type: remoteAddress}]}]}
    rateLimits: [{actions: [{genericKey: {descriptorValue: prod}}, {header: x-user}], limit: {requestsPerUnit: 3, unit: MINUTE}}]`,
		}},
		{"an access log collector", "HTTPListenerPolicy", `
spec: {accessLog: [{otel: {grpcService: {logName: l, backendRef: {kind: Backend, group: gateway.kgateway.dev, name: c}}}}]}`, []string{
			`spec: {accessLog: [{openTelemetry: {grpcService: {logName: l, backendRef: {group: gateway.kgateway.dev, name: c}}}}]}`,
			`spec: {accessLog: [{openTelemetry: {grpcService: {logName: l, backendRef: {kind: backend, name: c}}}}]}`,
		}},
		{"tracing", "HTTPListenerPolicy", `
spec:
  tracing:
    provider: {otel: {grpcService: {backendRef: {kind: Service, name: c, port: 4317}}}}
    samplingRate: 50
    propagators: [B3_SINGLE_HEADER]
    tags: {a: {literal: {value: x}}, b: {environment: {name: HOME}}, c: {requestHeader: {name: x-user}}}`, []string{`
spec:
  tracing:
    provider: {openTelemetry: {grpcService: {backendRef: {name: c, port: 4317}}}}
    randomSampling: 50
    propagators: [b3SingleHeader]
    customTags: {a: {literal: x}, b: {environment: HOME}, c: {requestHeader: x-user}}`, `
spec:
  tracing:
    provider: {openTelemetry: {grpcService: {backendRef: {name: c, port: 4317}}}}
    randomSampling: 50
    propagators: [B3_SINGLE_HEADER]
    attributes: [{name: a, literal: {value: x}}, {name: b, environment: {name: HOME}}, {name: c, requestHeader: {name: x-user}}]`,
		}},
		{"upgrades", "HTTPListenerPolicy", `spec: {upgradeConfig: {enabledUpgrades: [websocket]}}`, []string{`spec: {upgrades: [websocket]}`}},
		{"hashing", "BackendConfigPolicy", `
spec: {loadBalancer: {type: RingHash, minimumRingSize: 5, hashPolicy: [{header: {headerName: x}, terminal: true}, {sourceIP: {}}]}}`, []string{
			`spec: {loadBalancer: {type: ringHash, minimumRingSize: 5, hashPolicy: [{header: {headerName: x}, terminal: true}, {connectionProperties: {sourceIp: true}}]}}`,
			`spec: {loadBalancer: {ringHash: {minimumRingSize: 5, hashPolicies: [{header: {name: x}, terminal: true}, {sourceIP: {}}]}}}`,
			`spec: {loadBalancer: {type: RING_HASH, ringHash: {minimumRingSize: 5, hashPolicies: [{header: {name: x}, terminal: true}, {sourceIP: true}]}}}`,
		}},
		{"least request", "Backend", `
spec: {type: Static, static: {hosts: [{host: a, port: 80}]}, loadBalancer: {type: LeastRequest, choiceCount: 3}, tcpKeepalive: {probes: 3, time: 1s, interval: 2s}}`, []string{
			`spec: {static: {hosts: [{host: a, port: 80}]}, loadBalancer: {leastRequest: {choiceCount: 3}}, tcpKeepalive: {keepAliveProbes: 3, keepAliveTime: 1s, keepAliveInterval: 2s}}`,
		}},
		{"random", "BackendConfigPolicy", `spec: {loadBalancer: {type: Random}}`, []string{`spec: {loadBalancer: {random: {}}}`, `spec: {loadBalancer: {random: null}}`}},
		{"an extension", "GatewayExtension", `
spec: {type: ExtAuth, extAuth: {grpcService: {backendRef: {kind: Service, name: s}}}}`, []string{
			`spec: {extAuth: {grpcService: {backendRef: {name: s}}}}`,
			`spec: {type: ext_auth, extAuth: {grpcService: {backendRef: {kind: service, name: s}}}}`,
		}},
		{"an HTTP extension", "GatewayExtension", `
spec: {type: ExtAuth, extAuth: {httpService: {backendRef: {kind: Backend, group: gateway.kgateway.dev, name: s}}}}`, []string{
			`spec: {extAuth: {httpService: {backendRef: {kind: Backend, name: s}}}}`,
		}},
		{"proxies", "GatewayParameters", `
spec: {kube: {deployment: {replicas: 2}, agentgateway: {resources: {limits: {cpu: "1"}}, securityContext: {runAsUser: 5}}, podTemplate: {nodeSelector: {a: b}, extraLabels: {c: d}}}}`, []string{
			`spec: {kube: {deployment: {replicas: 2, container: {resources: {limits: {cpu: "1"}}, securityContext: {runAsUser: 5}}}, podTemplate: {extraLabels: {c: d}, spec: {nodeSelector: {a: b}}}}}`,
		}},
	}
}
