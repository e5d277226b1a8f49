package v1alpha1

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A GatewayParameters says how the controller runs the proxies of a Gateway. A
// Gateway refers to it by spec.infrastructure.parametersRef, a GatewayClass by
// spec.parametersRef; what the Gateway's says is laid over what the class's says.
// It has no effect on a gateway that is configured from files.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=gatewayparameters,singular=gatewayparameters,categories=kgateway;mcpgw,shortName=gwp
// +kubebuilder:metadata:labels={app=kgateway,app.kubernetes.io/name=kgateway}
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=".spec.kube.service.type",description="The type of the Service that is made"
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=".spec.kube.deployment.replicas",description="How many Pods, where no autoscaler says it"
// +kubebuilder:printcolumn:name="Most",type=integer,JSONPath=".spec.kube.horizontalPodAutoscaler.spec.maxReplicas",description="How many Pods the autoscaler may make"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
type GatewayParameters struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// How the proxies are run. Required.
	Spec GatewayParametersSpec `json:"spec"`

	// Empty: what became of it is told by the Gateway that uses it.
	// +optional
	Status GatewayParametersStatus `json:"status,omitempty"`
}

// A GatewayParametersList is a list of GatewayParameters.
//
// +kubebuilder:object:root=true
type GatewayParametersList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GatewayParameters `json:"items"`
}

// A GatewayParametersStatus is empty.
type GatewayParametersStatus struct{}

// A GatewayParametersSpec says how proxies are run.
//
// +kubebuilder:validation:XValidation:rule="has(self.kube) != has(self.selfManaged)",message="set exactly one of kube and selfManaged"
type GatewayParametersSpec struct {
	// The controller runs the proxies in Kubernetes. Exactly one of kube and
	// selfManaged is set.
	// +optional
	Kube *KubernetesProxy `json:"kube,omitempty"`

	// You run the proxies: the controller makes nothing, and hands the
	// configuration to the proxies that ask for it. Write selfManaged: {}.
	// +optional
	SelfManaged *SelfManaged `json:"selfManaged,omitempty"`
}

// A SelfManaged has no settings.
type SelfManaged struct{}

// A KubernetesProxy says how the controller runs proxies.
type KubernetesProxy struct {
	// The proxy's container. Absent: the defaults of each field.
	// +optional
	Agentgateway *ProxyContainer `json:"agentgateway,omitempty"`

	// The Deployment. Absent: the defaults of each field.
	// +optional
	Deployment *ProxyDeployment `json:"deployment,omitempty"`

	// The Pods. Absent: the defaults of each field.
	// +optional
	PodTemplate *ProxyPod `json:"podTemplate,omitempty"`

	// The Service. Absent: the defaults of each field.
	// +optional
	Service *ProxyService `json:"service,omitempty"`

	// The ServiceAccount. Absent: without extra labels and annotations.
	// +optional
	ServiceAccount *ProxyServiceAccount `json:"serviceAccount,omitempty"`

	// A PodDisruptionBudget for the proxies. Absent: none.
	// +optional
	PodDisruptionBudget *ProxyDisruptionBudget `json:"podDisruptionBudget,omitempty"`

	// A HorizontalPodAutoscaler for the proxies; the replicas of the Deployment are
	// left to it then. Absent: none.
	// +optional
	HorizontalPodAutoscaler *ProxyAutoscaler `json:"horizontalPodAutoscaler,omitempty"`

	// Whether the container gets no security context but the one given here.
	// Default: false, it runs without root, privileges and a writable root.
	// +optional
	OmitDefaultSecurityContext *bool `json:"omitDefaultSecurityContext,omitempty"`

	// Whether the default security context names no user, so that the platform
	// chooses one. Default: false.
	// +optional
	FloatingUserID *bool `json:"floatingUserId,omitempty"`

	// Accepted and without effect: metrics are always served.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Stats *IgnoredBlock `json:"stats,omitempty"`

	// Accepted and without effect: there is no sidecar.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Istio *IgnoredBlock `json:"istio,omitempty"`

	// Accepted and without effect: there is no such container.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	SDSContainer *IgnoredBlock `json:"sdsContainer,omitempty"`

	// Accepted and without effect: there is no such container.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	EnvoyContainer *IgnoredBlock `json:"envoyContainer,omitempty"`

	// Accepted and without effect: there is no such container.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	AIExtension *IgnoredBlock `json:"aiExtension,omitempty"`
}

// An IgnoredBlock is a block that is accepted, whatever it holds, and ignored.
type IgnoredBlock struct{}

// A ProxyContainer is the container of a proxy.
type ProxyContainer struct {
	// Accepted and without effect: the class of the Gateway decides.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`

	// A ConfigMap in the Gateway's namespace whose key config.yaml holds
	// resources that the proxy serves beside those of the controller. Default:
	// none.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	CustomConfigMapName string `json:"customConfigMapName,omitempty"`

	// The least severe log entries that are written: error, warn, info, debug or
	// trace, which is as debug. Default: info.
	// +optional
	// +kubebuilder:validation:Enum=error;warn;info;debug;trace
	LogLevel string `json:"logLevel,omitempty"`

	// The image. Default: the controller's.
	// +optional
	Image *ProxyImage `json:"image,omitempty"`

	// The security context of the container. Default: no root, no privileges,
	// root file system read-only.
	// +optional
	SecurityContext *corev1.SecurityContext `json:"securityContext,omitempty"`

	// Requests and limits of CPU and memory. Default: none.
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// Environment variables beside the controller's. Default: none.
	// +optional
	Env []corev1.EnvVar `json:"env,omitempty"`

	// Volume mounts beside the controller's. Default: none.
	// +optional
	ExtraVolumeMounts []corev1.VolumeMount `json:"extraVolumeMounts,omitempty"`
}

// A ProxyImage names the image of a proxy.
type ProxyImage struct {
	// The registry. Default: the controller's.
	// +optional
	Registry string `json:"registry,omitempty"`

	// The repository. Default: the controller's.
	// +optional
	Repository string `json:"repository,omitempty"`

	// The tag. Default: the controller's.
	// +optional
	Tag string `json:"tag,omitempty"`

	// The digest, which wins over the tag. Default: none.
	// +optional
	Digest string `json:"digest,omitempty"`

	// When the image is pulled: Always, IfNotPresent or Never. Default:
	// IfNotPresent.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	PullPolicy corev1.PullPolicy `json:"pullPolicy,omitempty"`
}

// A ProxyDeployment is the Deployment of the proxies.
type ProxyDeployment struct {
	// How many proxies, 0 or more. Absent: the field is left to Kubernetes (1)
	// or to an autoscaler.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Replicas *int32 `json:"replicas,omitempty"`

	// How proxies are replaced. Default: as Kubernetes does it.
	// +optional
	Strategy *appsv1.DeploymentStrategy `json:"strategy,omitempty"`
}

// A ProxyPod is the Pod of a proxy.
type ProxyPod struct {
	// Labels beside the controller's. Default: none.
	// +optional
	ExtraLabels map[string]string `json:"extraLabels,omitempty"`

	// Annotations beside the controller's. Default: none.
	// +optional
	ExtraAnnotations map[string]string `json:"extraAnnotations,omitempty"`

	// The security context of the Pod. Default: none.
	// +optional
	SecurityContext *corev1.PodSecurityContext `json:"securityContext,omitempty"`

	// Secrets for pulling the image. Default: none.
	// +optional
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// Labels that a node must have. Default: none.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// On which nodes and beside which Pods to run. Default: none.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// Taints that are tolerated. Default: none.
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// How Pods are spread. Default: as Kubernetes does it.
	// +optional
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// How a proxy that ends gives its clients time. Default: it drains for the
	// grace period.
	// +optional
	GracefulShutdown *GracefulShutdown `json:"gracefulShutdown,omitempty"`

	// How many seconds a Pod has to end, 0 or more. Default: 60.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`

	// When a Pod has started. Default: none.
	// +optional
	StartupProbe *corev1.Probe `json:"startupProbe,omitempty"`

	// When a Pod can serve. Default: when the proxy has a configuration.
	// +optional
	ReadinessProbe *corev1.Probe `json:"readinessProbe,omitempty"`

	// When a Pod has to be started again. Default: none.
	// +optional
	LivenessProbe *corev1.Probe `json:"livenessProbe,omitempty"`

	// Volumes beside the controller's. Default: none.
	// +optional
	ExtraVolumes []corev1.Volume `json:"extraVolumes,omitempty"`
}

// A GracefulShutdown gives clients time before a proxy ends.
type GracefulShutdown struct {
	// Whether it does. Default: true.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`

	// How many seconds a proxy goes on before it drains, 0 or more. Default: 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	SleepTimeSeconds *int64 `json:"sleepTimeSeconds,omitempty"`
}

// A ProxyService is the Service of the proxies.
type ProxyService struct {
	// The type of the Service: ClusterIP, NodePort or LoadBalancer. Default:
	// LoadBalancer.
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer;ExternalName
	Type corev1.ServiceType `json:"type,omitempty"`

	// The cluster address. Default: Kubernetes chooses.
	// +optional
	ClusterIP string `json:"clusterIP,omitempty"`

	// Labels beside the controller's. Default: none.
	// +optional
	ExtraLabels map[string]string `json:"extraLabels,omitempty"`

	// Annotations beside the controller's. Default: none.
	// +optional
	ExtraAnnotations map[string]string `json:"extraAnnotations,omitempty"`

	// Node ports of listener ports. Default: Kubernetes chooses.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Ports []ProxyPort `json:"ports,omitempty"`

	// Which nodes receive traffic from outside: Cluster or Local. Default:
	// Cluster.
	// +optional
	// +kubebuilder:validation:Enum=Cluster;Local
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`
}

// A ProxyPort is the node port of a listener port.
type ProxyPort struct {
	// The port of the listener, 1 to 65535. Required.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// The port of the nodes, 1 to 65535. Default: Kubernetes chooses.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	NodePort *int32 `json:"nodePort,omitempty"`
}

// A ProxyServiceAccount is the ServiceAccount of the proxies.
type ProxyServiceAccount struct {
	// Labels beside the controller's. Default: none.
	// +optional
	ExtraLabels map[string]string `json:"extraLabels,omitempty"`

	// Annotations beside the controller's, such as the one that names an AWS
	// role. Default: none.
	// +optional
	ExtraAnnotations map[string]string `json:"extraAnnotations,omitempty"`
}

// A ProxyDisruptionBudget is the PodDisruptionBudget of the proxies.
type ProxyDisruptionBudget struct {
	// How many proxies may be missing. Required.
	Spec ProxyDisruptionBudgetSpec `json:"spec"`
}

// A ProxyDisruptionBudgetSpec says how many proxies may be missing.
//
// +kubebuilder:validation:XValidation:rule="has(self.minAvailable) != has(self.maxUnavailable)",message="set exactly one of minAvailable and maxUnavailable"
type ProxyDisruptionBudgetSpec struct {
	// How many proxies stay, a number or a percentage. Exactly one of this and
	// maxUnavailable is set.
	// +optional
	MinAvailable *intstr.IntOrString `json:"minAvailable,omitempty"`

	// How many proxies may be missing, a number or a percentage.
	// +optional
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// When proxies that are not ready may be evicted: IfHealthyBudget or
	// AlwaysAllow. Default: as Kubernetes does it.
	// +optional
	// +kubebuilder:validation:Enum=IfHealthyBudget;AlwaysAllow
	UnhealthyPodEvictionPolicy policyv1.UnhealthyPodEvictionPolicyType `json:"unhealthyPodEvictionPolicy,omitempty"`
}

// A ProxyAutoscaler is the HorizontalPodAutoscaler of the proxies.
type ProxyAutoscaler struct {
	// How many proxies, by what. Required.
	Spec ProxyAutoscalerSpec `json:"spec"`
}

// A ProxyAutoscalerSpec says how many proxies there are, by what.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",message="minReplicas must not be greater than maxReplicas"
type ProxyAutoscalerSpec struct {
	// The least number of proxies, 1 or more. Default: 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// The greatest number of proxies, 1 or more. Required.
	// +kubebuilder:validation:Minimum=1
	MaxReplicas int32 `json:"maxReplicas"`

	// What the number follows. Default: 80 % of the CPU that is requested.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Metrics []autoscalingv2.MetricSpec `json:"metrics,omitempty"`

	// How fast the number follows. Default: as Kubernetes does it.
	// +optional
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior,omitempty"`
}
