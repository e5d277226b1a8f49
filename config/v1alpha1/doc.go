// Package v1alpha1 contains the API types of gateway.kgateway.dev/v1alpha1: the
// seven kinds that, beside those of the Gateway API, configure mcpgw. There is a
// file a kind ([Backend], [TrafficPolicy], [HTTPListenerPolicy],
// [GatewayParameters], [DirectResponse], [GatewayExtension],
// [BackendConfigPolicy]).
//
// A manifest passes through the package in this order: [Normalize] brings the
// spellings that users' manifests carry to the one of these types, [Default]
// fills in what is not written, the caller decodes into the Go type, and its
// Validate method reports every mistake with its field path. [Unserved] names
// what the data plane does not do yet. The doc comments here are the reference
// of the API: [Describe], [Schema] and the custom resource definitions in crds
// are generated from them.
//
// Package config uses it for files, package kube for a cluster, package gateway
// reads the typed objects. Nothing here resolves a reference, reads a file or
// compiles an expression.
//
// +kubebuilder:object:generate=true
// +groupName=gateway.kgateway.dev
package v1alpha1
