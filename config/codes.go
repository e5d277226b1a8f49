package config

// The codes of problems, stable over releases. [Codes] explains each. Codes from
// MG0200 are raised by package gateway when it compiles resources.
const (
	CodeUnreadable      = "MG0001"
	CodeFileTooLarge    = "MG0002"
	CodeNoObjects       = "MG0003"
	CodeTooManyFiles    = "MG0004"
	CodeTooDeepFolder   = "MG0005"
	CodeTooManyProblems = "MG0006"

	CodeSyntax       = "MG0010"
	CodeTab          = "MG0011"
	CodeDuplicateKey = "MG0012"
	CodeAlias        = "MG0013"
	CodeAliasLimit   = "MG0014"
	CodeDepth        = "MG0015"
	CodeKey          = "MG0016"
	CodeValue        = "MG0017"
	CodeEncoding     = "MG0018"

	CodeNotAnObject     = "MG0101"
	CodeMissingKind     = "MG0102"
	CodeUnknownVersion  = "MG0103"
	CodeUnknownKind     = "MG0104"
	CodeName            = "MG0105"
	CodeDuplicateObject = "MG0106"
	CodeUnknownField    = "MG0107"
	CodeType            = "MG0108"
	CodeRequired        = "MG0109"
	CodeEnum            = "MG0110"
	CodeInvalidValue    = "MG0111"
	CodeChoice          = "MG0112"
	CodeDuplicateItem   = "MG0113"
	CodeTooLong         = "MG0114"
	CodeConflict        = "MG0115"
	CodeIgnoredKind     = "MG0116"
	CodeUnservedKind    = "MG0117"
	CodeRegexp          = "MG0118"
	CodeInlineSecret    = "MG0119"

	CodeExpression        = "MG0201"
	CodeExpressionWarning = "MG0202"
	CodePassthrough       = "MG0203"
	CodeOpenToAll         = "MG0204"
	CodeOverridden        = "MG0205"
	CodeAudience          = "MG0206"
	CodeNoClaims          = "MG0207"
	CodeKeys              = "MG0208"
	CodeAPIKey            = "MG0209"
	CodeFormat            = "MG0210"
	CodeUnguarded         = "MG0211"

	CodeUnresolvedBackend   = "MG0301"
	CodeUnresolvedService   = "MG0302"
	CodeUnresolvedSecret    = "MG0303"
	CodeUnresolvedParent    = "MG0304"
	CodeUnresolvedTarget    = "MG0305"
	CodeUnresolvedExtension = "MG0306"
	CodeNotPermitted        = "MG0307"
	CodeUnserved            = "MG0308"
	CodeListener            = "MG0309"
	CodeShadowed            = "MG0310"
	CodeUnused              = "MG0311"
	CodeNoBackend           = "MG0312"
	CodeParameters          = "MG0313"
	CodeTLS                 = "MG0320"
)

// A Code explains what the problems of one code have in common.
type Code struct {
	ID    string // MG0107
	Title string // a few words
	Text  string // what it means and what to do, one to four sentences
}

// Codes returns every code, in order.
func Codes() []Code {
	return []Code{
		{CodeUnreadable, "a file can't be read", "The path given with -f, or a file in it, does not exist or can't be opened. While the gateway runs, the last good configuration stays in use until the file can be read again."},
		{CodeFileTooLarge, "a file is too large", "A file may have at most 4 MiB, and all files together 64 MiB. Split the file, or check that it is the one you meant."},
		{CodeNoObjects, "there are no objects", "The files hold nothing that configures a gateway. Since that is what a half-written or emptied file looks like, an empty configuration is never applied."},
		{CodeTooManyFiles, "there are too many files", "At most 1,000 files are read. Give a directory that holds configuration only."},
		{CodeTooDeepFolder, "a directory is not read", "Of a directory, its own files and those of its subdirectories are read, and nothing deeper. Move the files up, or name the directory with a further -f."},

		{CodeTooManyProblems, "there are too many problems", "No more than 1,000 problems are told at once. The first ones are often the cause of the others."},

		{CodeSyntax, "the file is not YAML", "The text does not follow the rules of YAML from the marked place on. The cause is often a little above it: an indentation, a quote or a bracket that is not closed. Later documents of the file (after ---) are checked all the same."},
		{CodeTab, "a tab indents a line", "YAML permits spaces only in front of a line. Replace each tab; most editors can do so when they save."},
		{CodeDuplicateKey, "a key is there twice", "Two entries of one mapping have the same key, and programs differ in which of them they take. Remove one, or join what they hold."},
		{CodeAlias, "an alias without an anchor", "A value that begins with * is an alias: it stands for what was marked with & and the same name before, in the same document. If it is meant as text, such as the hostname *.example.com, put it in quotes."},
		{CodeAliasLimit, "aliases stand for too much", "At most 100 aliases are permitted in a file, and what they stand for may have at most 100,000 values. Write out what is needed."},
		{CodeDepth, "values are nested too deep", "At most 100 levels are permitted."},
		{CodeKey, "a key is not a word", "The keys of a mapping must be simple values: text, a number, true or false. A common cause is {{ }} of a template language: put it in quotes, or render the template first."},
		{CodeValue, "a value that JSON does not know", "Objects are JSON at heart: tags other than those of YAML's own types, and numbers such as .inf and .nan, have no meaning in them."},
		{CodeEncoding, "the file is not text", "Files must be UTF-8 without control characters."},

		{CodeNotAnObject, "a document is not an object", "Each document, that is, what stands between two lines of ---, must be a mapping with apiVersion, kind and metadata."},
		{CodeMissingKind, "apiVersion or kind is missing", "Every object says what it is by apiVersion and kind, such as gateway.kgateway.dev/v1alpha1 and Backend."},
		{CodeUnknownVersion, "an apiVersion is not known", "The API group or version is not one that mcpgw reads."},
		{CodeUnknownKind, "a kind is not known", "There is no such kind in the API group. Kinds are written in CamelCase, in the singular."},
		{CodeName, "a name or namespace is not valid", "metadata.name is required: lower-case letters, digits, - and ., beginning and ending with a letter or digit, at most 253 characters. A namespace has at most 63 and no dot."},
		{CodeDuplicateObject, "an object is there twice", "Two objects have the same kind, namespace and name, in one file or in several. Remove or rename one."},
		{CodeUnknownField, "a field is not known", "The object has no field of that name. In a cluster the API server would drop it silently; in a file it is refused, since a restriction that is spelled wrong must not be lost."},
		{CodeType, "a value has the wrong type", "The field wants text, a number, true or false, a list or an object, and something else is written. Numbers in text fields need quotes; YAML 1.2 reads yes and no as text."},
		{CodeRequired, "a field is missing", "The object can't be used without the field."},
		{CodeEnum, "a value is not one of those permitted", "The field takes one of a few words. In the gateway.kgateway.dev kinds, case and underscores don't matter."},
		{CodeInvalidValue, "a value is out of range or has the wrong form", "The message says what is permitted."},
		{CodeChoice, "fields exclude each other", "Of several fields only one may be set, or one only together with another."},
		{CodeDuplicateItem, "a list item is there twice", "The items of the list must differ in the marked field."},
		{CodeTooLong, "a value is too long", "The text, list or map has more than is permitted."},
		{CodeConflict, "two spellings of one field differ", "A field has several accepted spellings. Two of them are written in one object, with different values: keep one."},
		{CodeIgnoredKind, "a kind is not used", "The object is one of Kubernetes' own kinds that mcpgw has no use for in files, such as a Deployment. It is left out."},
		{CodeUnservedKind, "a kind is not served", "The kind is part of the Gateway API, and mcpgw does not serve it."},
		{CodeRegexp, "a regular expression is not valid", "Expressions are those of RE2: no look-around and no back-references. They must match the whole value."},
		{CodeInlineSecret, "a credential stands in the file", "Whoever can read the file can read the credential. Put it in a Secret of its own and refer to it with kind: SecretRef."},

		{CodeExpression, "a CEL expression is not valid", "The expression does not compile, or its result is not true or false. Until it is right, everything that the policy covers answers 500, and never goes on without the policy."},
		{CodeExpressionWarning, "a CEL expression is surely not meant", "The expression is legal, but can never be true, or compares what can't be equal."},
		{CodePassthrough, "a client's credential is sent on", "kind: Passthrough sends the client's Authorization header to the target. Do so only when the target and the gateway accept the same tokens."},

		{CodeOpenToAll, "a Gateway is open to all", "The Gateway listens on all addresses of the machine, and at least one of its routes is covered by no policy that keeps anybody out: whoever reaches the port may use it. Authenticate clients by a TrafficPolicy, or restrict them by rbac, or keep others away from the port. Without a Gateway object, mcpgw listens on loopback only."},
		{CodeOverridden, "a field of a policy has no effect", "Two policies of the same level cover the same and have the same field. Fields are not merged inside: the older policy's counts, then that whose name is first. The rules of rbac are the exception, they add up."},
		{CodeAudience, "tokens are not bound to the gateway", "A token names in its claim aud for whom it was made. Without audiences a token that a client got for another service is good here, too, and whoever runs that service can use it. Where audiences follow from the URL of the route, that has to be fixed: by a hostname of the listener or the route, or by resourceMetadata.resource."},
		{CodeNoClaims, "a rule looks at what nobody fills in", "jwt, apiKey and basicAuth are empty unless a TrafficPolicy authenticates clients in that way."},
		{CodeKeys, "keys of an issuer can't be used", "The key set must be a JSON Web Key Set with public keys: RSA of 2048 to 8192 bits, EC on P-256, P-384 or P-521, or Ed25519. Private and symmetric keys are refused, since whoever reads them can make tokens; so can whoever stands between the gateway and a server that is asked by plain http."},
		{CodeAPIKey, "an entry of a Secret is no credential", "Each entry of a Secret with API keys is a key, or a JSON object with key and metadata; an htpasswd file has a line USER:HASH for each user. What can't be used is left out: nobody gets in by it."},
		{CodeFormat, "a format of an access log is not valid", "The format has a command operator that there is not, or one with a wrong argument, or a filter names a response flag that there is not. Until it is right, this log is not written; everything else is served."},

		{CodeUnguarded, "requests go around guards or budgets", "What an entry of routes has pass as it is (Passthrough) is not read: no prompt guard checks it, and no budget counts its tokens or money. Whoever may use the route may use it for the same models. Keep to the types that are read, or let only those who need it reach the path, by a rule of its own with rbac."},

		{CodeUnresolvedBackend, "a Backend is not there", "A route refers to a Backend that does not exist, or that can't be used. Its share of the requests answers 500."},
		{CodeUnresolvedService, "a Service is not there", "A reference leads to a Service or port that does not exist. Its share of the requests answers 500 until it does."},
		{CodeUnresolvedSecret, "a Secret is not there", "A reference leads to a Secret that does not exist or lacks the key. Nothing is sent without the credential: requests answer 503 until it is there."},
		{CodeUnresolvedParent, "a Gateway or listener is not there", "The parentRef of a route leads to no Gateway or listener that accepts the route. The route is not served."},
		{CodeUnresolvedTarget, "what a policy covers is not there", "The targetRef of a policy leads to nothing."},
		{CodeUnresolvedExtension, "what an extensionRef refers to is not there", "The extensionRef of a filter leads to nothing, or to a kind that can't be a filter; or that of a policy to no GatewayExtension of the type it needs."},
		{CodeNotPermitted, "a reference into another namespace is not permitted", "A ReferenceGrant in the namespace that is referred to has to permit it."},
		{CodeUnserved, "a field is not served yet", "The field is known, but does nothing yet. When it restricts or protects, what it covers answers 500 rather than going on without it."},
		{CodeListener, "a listener can't be used", "Its protocol, port, hostname or certificate does not permit it to be opened."},
		{CodeShadowed, "a route never matches", "Another route or rule takes all of its requests."},
		{CodeUnused, "an object is not used", "Nothing refers to it."},
		{CodeNoBackend, "a rule leads nowhere", "The rule has no backendRefs and no filter that answers, so its requests answer 500; a route without rules matches nothing."},
		{CodeParameters, "the parameters of a Gateway can't be used", "The GatewayParameters that a Gateway or its class refers to are not there, or hold a mistake. Nothing new is deployed for the Gateway until they can be used; what runs goes on."},
		{CodeTLS, "TLS toward a backend can't be used", "Certificates, ciphers or protocols that a BackendTLSPolicy or the tls of a BackendConfigPolicy names are missing or not usable. What the policy covers answers 500 until they are there: nothing is sent in plain text instead."},
	}
}
