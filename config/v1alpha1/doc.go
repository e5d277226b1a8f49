// Package v1alpha1 contains the API types of gateway.kgateway.dev/v1alpha1.
//
// +kubebuilder:object:generate=true
// +groupName=gateway.kgateway.dev
package v1alpha1
