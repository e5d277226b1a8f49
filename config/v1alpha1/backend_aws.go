package v1alpha1

// An AWSBackend is an AWS Lambda function.
//
// +kubebuilder:validation:XValidation:rule="has(self.accountId) || has(self.lambda.arn)",message="set accountId, the twelve digits of the AWS account, or lambda.arn"
type AWSBackend struct {
	// The twelve digits of the AWS account that owns the function. Required
	// unless lambda.arn is set.
	// +optional
	// +kubebuilder:validation:Pattern=`^[0-9]{12}$`
	AccountID string `json:"accountId,omitempty"`

	// The AWS region of the function. Default: us-east-1, or the region of
	// lambda.arn.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9-]+$`
	Region string `json:"region,omitempty"`

	// The credentials. Absent: the environment, then web identity (IRSA), then
	// EKS Pod Identity, whichever first yields an access key.
	// +optional
	Auth *AWSAuth `json:"auth,omitempty"`

	// The function. Required.
	Lambda AWSLambda `json:"lambda"`
}

// An AWSAuthType says where AWS credentials come from.
//
// +kubebuilder:validation:Enum=Secret
type AWSAuthType string

// The types of AWS credentials.
const AWSAuthSecret AWSAuthType = "Secret"

// An AWSAuth says where AWS credentials come from.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretRef)",message="type Secret needs secretRef, the Secret with accessKey and secretKey"
type AWSAuth struct {
	// Where the credentials come from; Secret is the only type. Default:
	// Secret when secretRef is set.
	// +optional
	Type AWSAuthType `json:"type,omitempty"`

	// The Secret, in the namespace of this object, with the keys accessKey and
	// secretKey and, for temporary credentials, sessionToken. Required.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`
}

// A LambdaInvocationMode says whether to wait for the function.
//
// +kubebuilder:validation:Enum=Sync;Async
type LambdaInvocationMode string

// The invocation modes.
const (
	LambdaSync  LambdaInvocationMode = "Sync"
	LambdaAsync LambdaInvocationMode = "Async"
)

// A LambdaPayloadTransformMode says how a request becomes the function's event.
//
// +kubebuilder:validation:Enum=None;Envoy
type LambdaPayloadTransformMode string

// The payload transformations.
const (
	LambdaPayloadNone  LambdaPayloadTransformMode = "None"
	LambdaPayloadEnvoy LambdaPayloadTransformMode = "Envoy"
)

// An AWSLambda is a Lambda function and how to call it.
//
// +kubebuilder:validation:XValidation:rule="has(self.functionName) || has(self.arn)",message="set functionName or arn"
type AWSLambda struct {
	// The name of the function: letters, digits, - and _, at most 140. Required
	// unless arn is set.
	// +optional
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9-_]{1,140}$`
	FunctionName string `json:"functionName,omitempty"`

	// The whole ARN of the function, as an alternative to accountId, region,
	// functionName and qualifier; what is set of those must agree with it.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9-_]{1,140}(:(\$LATEST|[A-Za-z0-9-_]{1,128}))?$`
	ARN string `json:"arn,omitempty"`

	// The version or alias to call: $LATEST, a number or an alias. Default:
	// $LATEST, or the qualifier of arn.
	// +optional
	// +kubebuilder:validation:Pattern=`^(\$LATEST|[A-Za-z0-9-_]{1,128})$`
	Qualifier string `json:"qualifier,omitempty"`

	// Sync waits for the result and returns it. Async answers 202 at once.
	// Default: Sync.
	// +optional
	// +kubebuilder:default=Sync
	InvocationMode LambdaInvocationMode `json:"invocationMode,omitempty"`

	// Envoy wraps method, path, headers, query and body into one JSON event
	// and unwraps the result likewise. None sends the body as it is and
	// returns the raw result. Default: Envoy.
	// +optional
	// +kubebuilder:default=Envoy
	PayloadTransformMode LambdaPayloadTransformMode `json:"payloadTransformMode,omitempty"`

	// Where the Lambda API is, for private endpoints and tests: an http or
	// https URL. Default: https://lambda.REGION.amazonaws.com.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[-a-zA-Z0-9@:%.+~#?&/=_]+$`
	EndpointURL string `json:"endpointURL,omitempty"`
}
