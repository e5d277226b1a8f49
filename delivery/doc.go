// Package delivery carries desired state from a controller, which reads an API server, to
// data planes, which need not.
//
// Its central type is [Set]: the objects that one data plane needs, by name. A [Server] hands each data plane
// that of its ServiceAccount, and nothing else; a [Source] is the other end, a [config.Source] like any other. The
// protocol is the delta discovery of xDS (envoy.service.discovery.v3.AggregatedDiscoveryService, DeltaAggregatedResources): it
// has what this takes, with generated code that is well kept: resources by name and version, only what differs, an answer
// to each response that takes or refuses it with a reason, and resumption by what the client says it has. There is
// one type of resource, an object in JSON as an API server has it, so that one response is one change of the whole, and
// what is taken is consistent.
//
// Versions are hashes of the content: any replica of a controller goes on where another ended. Connections are TLS, and
// data planes show a token that the server has checked. The package knows nothing of clusters, and nothing of
// how resources are served. It is called by kube, which makes the sets, and by internal/app.
package delivery
