# `make help` says what there is. What tests need beside Go is installed by
# hack/deps, outside the work tree.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X main.version=$(VERSION)
TOOL    := $(GO) tool -modfile=hack/tools/go.mod

.DEFAULT_GOAL := help

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/mcpgw
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/mcpgw ./cmd/mcpgw

.PHONY: run
run: build ## build, and serve the built-in demo on loopback
	@bin/mcpgw run $(ARGS)

.PHONY: deps
deps: ## install what the tests need: real MCP servers and clients, Node (cached)
	@hack/deps

.PHONY: test
test: deps ## run the tests with the race detector, but for those against a Kubernetes API server
	$(GO) test -race -timeout 18m $$($(GO) list ./... | grep -v /e2e)
	$(GO) test -race -timeout 18m -count=1 $$($(GO) list ./e2e/... | grep -Ev '/e2e/(kube|conformance)$$') # they build the gateway: their packages may not have changed

.PHONY: test-kube
test-kube: ## run the tests against a real Kubernetes API server, which is built once (cached)
	@hack/deps kube
	$(GO) test -race -timeout 15m -count=1 ./e2e/kube

.PHONY: test-short
test-short: ## run the tests that need nothing but Go
	$(GO) test $$($(GO) list ./... | grep -v /e2e)

.PHONY: conformance
conformance: deps ## run the official MCP suite, directly and through the gateway
	$(GO) test -timeout 30m -count=1 -v -run '^(TestConformance|TestLegacyFixture)$$' ./e2e

.PHONY: conformance-gateway
conformance-gateway: ## run the official Gateway API suite against a real API server, and write its reports
	@hack/deps kube
	MCPGW_CONFORMANCE_REPORT=report.yaml $(GO) test -timeout 30m -count=1 -v ./e2e/conformance
	MCPGW_CONFORMANCE_CHANNEL=experimental MCPGW_CONFORMANCE_REPORT=report-experimental.yaml $(GO) test -timeout 30m -count=1 -v ./e2e/conformance

.PHONY: soak
soak: ## a million calls under the race detector, none crossed; 30,000 sessions, none left over
	MCPGW_SOAK_CALLS=1000000 MCPGW_SOAK_LIFECYCLES=30000 $(GO) test -race -timeout 3h -count=1 -v -run '^(TestNoneCrossed|TestLifecycles)$$' ./gateway

.PHONY: bench
bench: ## measure the gateway beside a plain reverse proxy and nginx
	@hack/deps bench
	PATH="$$PATH:/usr/sbin" $(GO) run ./bench

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, and golangci-lint where it is installed
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'not formatted: run make fmt'; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; fi

.PHONY: generate
generate: ## write deepcopy functions and CRDs anew
	$(GO) generate ./...

.PHONY: fmt
fmt: ## format the Go files
	gofmt -w $$(git ls-files '*.go')

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
