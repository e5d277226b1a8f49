package v1alpha1

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// A Transformation changes headers and bodies.
//
// +kubebuilder:validation:XValidation:rule="has(self.request) || has(self.response)",message="set request or response, or both"
type Transformation struct {
	// Changes to the request. Absent: none.
	// +optional
	Request *Transform `json:"request,omitempty"`

	// Changes to the response. Absent: none.
	// +optional
	Response *Transform `json:"response,omitempty"`
}

// A Transform is a set of changes: set, then add, then remove, then body. All
// expressions see the message as it came.
type Transform struct {
	// Headers to set, replacing what is there. Default: none.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Set []HeaderTransform `json:"set,omitempty"`

	// Headers to add to what is there. Default: none.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Add []HeaderTransform `json:"add,omitempty"`

	// Names of headers to remove. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Remove []string `json:"remove,omitempty"`

	// The new body. Absent: the body stays.
	// +optional
	Body *BodyTransform `json:"body,omitempty"`
}

// A HeaderTransform sets a header.
type HeaderTransform struct {
	// The name of the header, or the pseudo header :path, :method or
	// :authority. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^:?[A-Za-z0-9!#$%&'*+.^_|~-]+$"
	Name string `json:"name"`

	// The CEL expression of the value. Where it fails or is null, a header
	// that is to be set is removed. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Value string `json:"value"`
}

// A BodyParseAs says how a [BodyTransform] reads the body.
//
// +kubebuilder:validation:Enum=AsString;AsJson
type BodyParseAs string

// The ways to read a body.
const (
	BodyAsString BodyParseAs = "AsString"
	BodyAsJSON   BodyParseAs = "AsJson"
)

// A BodyTransform replaces a body.
type BodyTransform struct {
	// How the expression sees the old body. Default: AsString.
	// +optional
	// +kubebuilder:default=AsString
	ParseAs BodyParseAs `json:"parseAs,omitempty"`

	// The CEL expression of the new body: a string as it is, all else as
	// JSON. Where it fails the body stays. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16384
	Value string `json:"value"`
}

// A CORSPolicy answers preflight requests and says which origins may read
// responses. The fields are those of the CORS filter of the Gateway API.
//
// +kubebuilder:validation:XValidation:rule="!has(self.disable) || [has(self.allowOrigins), has(self.allowCredentials), has(self.allowMethods), has(self.allowHeaders), has(self.exposeHeaders), has(self.maxAge)].filter(x, x).size() == 0",message="disable stands alone: remove the other fields"
type CORSPolicy struct {
	// The origins, such as https://app.example.com, https://*.example.com or *.
	// Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	AllowOrigins []string `json:"allowOrigins,omitempty"`

	// Whether requests may carry credentials. Default: false.
	// +optional
	AllowCredentials *bool `json:"allowCredentials,omitempty"`

	// The methods, or * for all. Default: GET, HEAD and POST.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	AllowMethods []string `json:"allowMethods,omitempty"`

	// The request headers that may be sent, or * for all. Default: none but
	// those that need no permission.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	AllowHeaders []string `json:"allowHeaders,omitempty"`

	// The response headers that may be read. Default: none but those that need
	// no permission.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	ExposeHeaders []string `json:"exposeHeaders,omitempty"`

	// For how many seconds a browser may keep the answer to a preflight
	// request, at least 1. Default: 5.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxAge int32 `json:"maxAge,omitempty"`

	// Switches off what a less specific policy switches on. Write disable: {}.
	// +optional
	Disable *PolicyDisable `json:"disable,omitempty"`
}

// A CSRFPolicy refuses requests that change something and come from another
// origin, with 403.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.percentageEnabled) && has(self.percentageShadowed))",message="set percentageEnabled or percentageShadowed, not both"
type CSRFPolicy struct {
	// The share of requests that are checked, 0 to 100. Default: 100, unless
	// percentageShadowed is set.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	PercentageEnabled *int32 `json:"percentageEnabled,omitempty"`

	// The share of requests that are checked and counted, but not refused, 0 to
	// 100. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	PercentageShadowed *int32 `json:"percentageShadowed,omitempty"`

	// Origins that are permitted beside the own one. Default: none.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	AdditionalOrigins []StringMatch `json:"additionalOrigins,omitempty"`
}

// A StringMatch matches a string in one way.
//
// +kubebuilder:validation:XValidation:rule="[has(self.exact), has(self.prefix), has(self.suffix), has(self.contains), has(self.safeRegex)].filter(x, x).size() == 1",message="set exactly one of exact, prefix, suffix, contains and safeRegex"
type StringMatch struct {
	// The whole string. Exactly one way to match is set.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Exact string `json:"exact,omitempty"`

	// The beginning of the string.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Prefix string `json:"prefix,omitempty"`

	// The end of the string.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Suffix string `json:"suffix,omitempty"`

	// A part of the string.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Contains string `json:"contains,omitempty"`

	// A regular expression, in RE2 syntax, for the whole string.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	SafeRegex string `json:"safeRegex,omitempty"`

	// Whether letters match whatever their case. Default: false.
	// +optional
	IgnoreCase bool `json:"ignoreCase,omitempty"`
}

// HeaderModifiers are fixed changes to headers.
//
// +kubebuilder:validation:XValidation:rule="has(self.request) || has(self.response)",message="set request or response, or both"
type HeaderModifiers struct {
	// Changes to the request: set, then add, then remove. Absent: none.
	// +optional
	Request *gatewayv1.HTTPHeaderFilter `json:"request,omitempty"`

	// Changes to the response: set, then add, then remove. Absent: none.
	// +optional
	Response *gatewayv1.HTTPHeaderFilter `json:"response,omitempty"`
}
