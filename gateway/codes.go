package gateway

// The codes of the problems that [Compile] reports. They are stable: users look
// them up, so a code is never given another meaning.
const (
	codeParentNotFound       = "MG3001" // a route names a Gateway, section or port that is not there
	codeNotAllowedByListener = "MG3002" // the listener does not take routes from that namespace or of that kind
	codeNoHostname           = "MG3003" // route and listener have no hostname in common
	codeBackendNotFound      = "MG3004" // a reference to a Backend that is not there
	codeServiceNotFound      = "MG3005" // a reference to a Service that is not there
	codeServicePort          = "MG3006" // the Service has no such port
	codeNoEndpoints          = "MG3007" // nothing says where the Service is
	codeRefNotPermitted      = "MG3008" // a reference to another namespace without a ReferenceGrant
	codeInvalidKind          = "MG3009" // a reference to a kind that can't be referred to here
	codeUnsupportedFilter    = "MG3010" // a filter that is not served
	codeIncompatibleFilters  = "MG3011" // filters that exclude each other
	codeDirectNotFound       = "MG3012" // a DirectResponse that is not there
	codeSecretNotFound       = "MG3013" // a Secret that is not there
	codeSecretContent        = "MG3014" // a Secret without the key, or with a value that can't be used
	codeProtocol             = "MG3015" // a listener protocol or TLS mode that is not served
	codeListenerConflict     = "MG3016" // two listeners want the same port and hostname, or other protocols on a port
	codePortUnavailable      = "MG3017" // the port can't be listened on
	codeRouteKinds           = "MG3018" // allowedRoutes names kinds that are not served
	codeRegex                = "MG3019" // a regular expression that does not compile
	codeTimeout              = "MG3020" // a timeout that can't be used
	codePolicyTarget         = "MG3021" // a policy covers something that is not there
	codePolicyNoTarget       = "MG3022" // a policy covers nothing
	codeExpression           = "MG3023" // an expression that does not compile
	codeExpressionWarning    = "MG3024" // an expression that surely means something else
	codeNotServed            = "MG3025" // a field or kind that is not served yet
	codeTargetName           = "MG3026" // two MCP targets of one name
	codeStdio                = "MG3027" // a stdio target from somewhere else than local files
	codeNoBackend            = "MG3028" // a rule without anything to send requests to
	codeOpenToAll            = "MG3029" // a Gateway on all addresses that nothing restricts
	codeIgnored              = "MG3030" // what is written has no effect
	codeHeaderName           = "MG3031" // a header name or value that can't be sent
	codePathModifier         = "MG3032" // a path modifier that does not fit the rule's matches
)
