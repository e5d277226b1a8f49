package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A DirectResponse is a fixed response. An HTTPRoute rule gives it through a
// filter of type ExtensionRef, after access control and rate limits.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=kgateway;mcpgw,shortName=dr
// +kubebuilder:metadata:labels={app=kgateway,app.kubernetes.io/name=kgateway}
// +kubebuilder:printcolumn:name="Status",type=integer,JSONPath=".spec.status",description="The HTTP status"
// +kubebuilder:printcolumn:name="Body",type=string,JSONPath=".spec.body",description="The body",priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
type DirectResponse struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The response. Required.
	Spec DirectResponseSpec `json:"spec"`

	// Empty: what became of it is told by the route that uses it.
	// +optional
	Status DirectResponseStatus `json:"status,omitempty"`
}

// A DirectResponseList is a list of DirectResponses.
//
// +kubebuilder:object:root=true
type DirectResponseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DirectResponse `json:"items"`
}

// A DirectResponseSpec is the response of a [DirectResponse].
type DirectResponseSpec struct {
	// The HTTP status, 200 to 599. Required.
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	Status int32 `json:"status"`

	// The body, 1 to 4096 characters. It is sent as application/json when it is
	// a JSON object or array, else as text/plain. Absent: no body.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Body *string `json:"body,omitempty"`
}

// A DirectResponseStatus is empty.
type DirectResponseStatus struct{}
