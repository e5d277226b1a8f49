package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mcpgw/mcpgw/internal/secret"
)

// A Duration is a length of time as the Gateway API writes it (GEP-2257): one to
// four groups of at most five digits and a unit of h, m, s or ms, such as 500ms,
// 30s or 1h30m. Fractions, signs and smaller units are refused.
//
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
type Duration string

// Value returns the length of time. It is 0 when d is empty or is not a
// duration: Validate has refused the latter.
func (d Duration) Value() time.Duration {
	v, err := time.ParseDuration(string(d))
	if err != nil {
		return 0
	}
	return v
}

// Or returns the length of time, or def when d is empty.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == "" {
		return def
	}
	return d.Value()
}

// A Sensitive is a secret written into a manifest. All of its printed and
// encoded forms show [secret.Redacted]; [Sensitive.Secret] gives the value.
//
// +kubebuilder:validation:Format=password
type Sensitive string

// Secret returns the secret for the code that sends it.
func (s Sensitive) Secret() secret.Value { return secret.New(string(s)) }

// String prints [secret.Redacted], or nothing when there is no secret. It
// implements fmt.Stringer.
func (s Sensitive) String() string {
	if s == "" {
		return ""
	}
	return secret.Redacted
}

// GoString prints as String does, for the %#v verb.
func (s Sensitive) GoString() string { return s.String() }

// MarshalText encodes as String prints, for JSON, YAML, text and log encoders.
func (s Sensitive) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A LocalRef names an object in the namespace of the object that holds it.
type LocalRef struct {
	// The name of the object, in the namespace of this object. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// An ObjectRef names an object, in another namespace if it says so.
type ObjectRef struct {
	// The name of the object. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// The namespace of the object. Default: the namespace of this object.
	// Another namespace has to permit it by a ReferenceGrant.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// A BackendRef refers to a Service or Backend.
type BackendRef struct {
	// The API group of the kind. Default: "" for a Service,
	// gateway.kgateway.dev for a Backend.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`

	// The kind referred to. Default: Service.
	// +optional
	// +kubebuilder:validation:Enum=Service;Backend
	Kind string `json:"kind,omitempty"`

	// The name of the Service or Backend. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Its namespace. Default: the namespace of this object. Another namespace
	// has to permit it by a ReferenceGrant.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// The port of the Service, 1 to 65535. Default: 80. Ignored for a Backend.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// A PolicyTargetRef names the object that a policy covers.
type PolicyTargetRef struct {
	// The API group of the object. Default: the group of the kind.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`

	// The kind of the object, such as HTTPRoute. Required. Each kind of policy
	// says which kinds it can cover.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// The name of the object, in the namespace of the policy. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// The part of the object to cover: a listener of a Gateway, a rule of an
	// HTTPRoute, a target of an MCP Backend, a provider of an AI Backend.
	// Default: the whole object.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SectionName string `json:"sectionName,omitempty"`
}

// A PolicyTargetSelector chooses the objects that a policy covers by label.
type PolicyTargetSelector struct {
	// The API group of the objects. Default: the group of the kind.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`

	// The kind of the objects. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// The labels that an object in the namespace of the policy must have, all
	// of them. Required, at least one.
	// +kubebuilder:validation:MinProperties=1
	MatchLabels map[string]string `json:"matchLabels"`

	// The part of each object to cover, as in targetRefs. Default: the whole
	// object.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SectionName string `json:"sectionName,omitempty"`
}

// An AuthTokenKind says where a credential comes from.
//
// +kubebuilder:validation:Enum=Inline;SecretRef;Passthrough
type AuthTokenKind string

// The kinds of credentials.
const (
	AuthTokenInline      AuthTokenKind = "Inline"
	AuthTokenSecretRef   AuthTokenKind = "SecretRef"
	AuthTokenPassthrough AuthTokenKind = "Passthrough"
)

// An AuthToken is the credential to send to a provider or MCP target.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.inline) && has(self.secretRef))",message="set inline or secretRef, not both"
// +kubebuilder:validation:XValidation:rule="!has(self.kind) || self.kind != 'Inline' || has(self.inline)",message="kind Inline needs inline, the token itself"
// +kubebuilder:validation:XValidation:rule="!has(self.kind) || self.kind != 'SecretRef' || has(self.secretRef)",message="kind SecretRef needs secretRef, the Secret that holds the token"
type AuthToken struct {
	// Where the credential comes from. Inline: it stands in inline. SecretRef:
	// it stands in a Secret under the key Authorization, where white space
	// around it and a leading "Bearer " are taken off. Passthrough: the
	// Authorization header of the client is sent on, shaped as the receiver
	// wants it. Default: Inline or SecretRef, whichever block is set.
	// +optional
	Kind AuthTokenKind `json:"kind,omitempty"`

	// The token itself. It is never printed, but prefer secretRef: whoever can
	// read the manifest can read it. With kind Inline only.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Inline Sensitive `json:"inline,omitempty"`

	// The Secret, in the namespace of this object, whose key Authorization
	// holds the token. While it is missing nothing is sent: requests answer
	// 503. With kind SecretRef only.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`
}

// A ConditionsStatus is the status of a kind that reports conditions of its own.
type ConditionsStatus struct {
	// What became of the object: Accepted is True when it can be used, else
	// False with the reason Invalid and a message that says what to change.
	// Written by the controller.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
