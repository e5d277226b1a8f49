// Package kube delivers desired state from a Kubernetes API server, and writes back what became
// of it.
//
// A [Source] watches every kind that configures the gateway, and hands all of it over at
// once, as [config.Resources], whenever something changes: level-triggered, with one key, so that it makes no difference what changed, how often or in
// which order. Changes that come together are one. Secrets and ConfigMaps are watched one by one, where
// something refers to them, and never listed as a whole. While the API server is
// away, what was delivered last stays.
//
// The status of Gateways, routes, policies and Backends is written from the report on what was delivered, by the
// one replica that holds the lease, and only where it differs.
//
// With [Proxies] each Gateway is served by data planes of its own: the set that was delivered and the report say what each
// needs, which package delivery carries, and what is to be deployed for it, which the holder of the lease applies.
//
// The package knows nothing of how resources are served: package gateway does not appear here. It is
// called by internal/app.
package kube
