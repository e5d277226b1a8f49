package kube

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

const (
	// graceDefault is how long a Pod has to end, sleepDefault how long it goes on before it drains, in seconds.
	graceDefault, sleepDefault = 60, 10
	// graceRest is what is left of the grace period when the drain is over, in seconds.
	graceRest = 5
	// tokenLife is how long a token of a data plane holds, in seconds. The kubelet has a new one in time.
	tokenLife = 3600
)

// pod returns the Pod of a data plane.
func (p *provision) pod(t *v1alpha1.ProxyPod) corev1.PodSpec {
	grace := int64(graceDefault)
	if t.TerminationGracePeriodSeconds != nil {
		grace = *t.TerminationGracePeriodSeconds
	}
	no, readable, life := false, int32(0o444), int64(tokenLife)
	spec := corev1.PodSpec{
		ServiceAccountName:            nameFor(p.gateway.Name),
		AutomountServiceAccountToken:  &no,
		TerminationGracePeriodSeconds: &grace,
		ImagePullSecrets:              t.ImagePullSecrets,
		NodeSelector:                  t.NodeSelector,
		Affinity:                      t.Affinity,
		Tolerations:                   t.Tolerations,
		TopologySpreadConstraints:     t.TopologySpreadConstraints,
		SecurityContext:               p.podSecurity(t),
		Containers:                    []corev1.Container{p.container(t, grace)},
		Volumes: append([]corev1.Volume{
			{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: &readable, Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: Audience, ExpirationSeconds: &life, Path: "token"}},
			}}}},
			{Name: "controller", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: nameFor(p.gateway.Name)}, DefaultMode: &readable,
			}}},
		}, t.ExtraVolumes...),
	}
	if c := p.spec.Agentgateway; c != nil && c.CustomConfigMapName != "" {
		yes := true // one that is not there must not keep Pods from starting
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "custom", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: c.CustomConfigMapName}, DefaultMode: &readable, Optional: &yes,
		}}})
	}
	return spec
}

// podSecurity returns the security context of the Pod, in which ports below 1024 can be opened by anybody.
func (p *provision) podSecurity(t *v1alpha1.ProxyPod) *corev1.PodSecurityContext {
	if t.SecurityContext != nil {
		return t.SecurityContext
	}
	if isTrue(p.spec.OmitDefaultSecurityContext) {
		return nil
	}
	c := &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	for _, l := range p.ports() {
		if l.Port < 1024 {
			c.Sysctls = []corev1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "0"}}
		}
	}
	return c
}

// security returns the security context of the container.
func (p *provision) security(c *v1alpha1.ProxyContainer) *corev1.SecurityContext {
	if c.SecurityContext != nil {
		return c.SecurityContext
	}
	if isTrue(p.spec.OmitDefaultSecurityContext) {
		return nil
	}
	no, yes, user := false, true, int64(userID)
	out := &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes, RunAsUser: &user,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if isTrue(p.spec.FloatingUserID) {
		out.RunAsUser = nil
	}
	return out
}

func isTrue(b *bool) bool { return b != nil && *b }

// environment returns the variables of a data plane, of which given ones take the place of those with the same name.
func environment(given []corev1.EnvVar) []corev1.EnvVar {
	own := []corev1.EnvVar{
		{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}},
		{Name: "MCPGW_PEER_ADDR", Value: fmt.Sprintf("[$(POD_IP)]:%d", peerPort)},
	}
	own = slices.DeleteFunc(own, func(e corev1.EnvVar) bool {
		return slices.ContainsFunc(given, func(g corev1.EnvVar) bool { return g.Name == e.Name })
	})
	return append(own, given...)
}

// container returns the container of a data plane.
func (p *provision) container(t *v1alpha1.ProxyPod, grace int64) corev1.Container {
	c := p.spec.Agentgateway
	if c == nil {
		c = &v1alpha1.ProxyContainer{}
	}
	sleep := int64(sleepDefault)
	if s := t.GracefulShutdown; s != nil {
		if s.SleepTimeSeconds != nil {
			sleep = *s.SleepTimeSeconds
		}
		if s.Enabled != nil && !*s.Enabled {
			sleep = 0
		}
	}
	sleep = min(sleep, grace)
	drain := max(1, grace-sleep-graceRest)
	level := cmp.Or(c.LogLevel, "info")
	if level == "trace" {
		level = "debug"
	}
	out := corev1.Container{
		Name:            "agentgateway",
		Image:           p.image(c.Image),
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args: []string{
			"serve",
			"--controller=" + p.proxies.Address,
			"--controller-ca-file=" + caDir + "/" + corev1.ServiceAccountRootCAKey,
			"--controller-token-file=" + tokenDir + "/token",
			fmt.Sprintf("--metrics-addr=:%d", metricsPort),
			fmt.Sprintf("--ready-addr=:%d", readyPort),
			fmt.Sprintf("--drain-delay=%ds", sleep),
			fmt.Sprintf("--drain-timeout=%ds", drain),
			"--log-format=json",
			"--log-level=" + level,
		},
		Env: environment(c.Env),
		Ports: []corev1.ContainerPort{
			{Name: "peers", ContainerPort: peerPort, Protocol: corev1.ProtocolTCP},
			{Name: "metrics", ContainerPort: metricsPort, Protocol: corev1.ProtocolTCP},
			{Name: "ready", ContainerPort: readyPort, Protocol: corev1.ProtocolTCP},
		},
		VolumeMounts: append([]corev1.VolumeMount{
			{Name: "token", MountPath: tokenDir, ReadOnly: true},
			{Name: "controller", MountPath: caDir, ReadOnly: true},
		}, c.ExtraVolumeMounts...),
		StartupProbe:    t.StartupProbe,
		ReadinessProbe:  t.ReadinessProbe,
		LivenessProbe:   t.LivenessProbe,
		SecurityContext: p.security(c),
	}
	if c.CustomConfigMapName != "" {
		out.Args = append(out.Args, "--filename="+customDir+"/config.yaml")
		out.VolumeMounts = append(out.VolumeMounts, corev1.VolumeMount{Name: "custom", MountPath: customDir, ReadOnly: true})
	}
	if c.Image != nil && c.Image.PullPolicy != "" {
		out.ImagePullPolicy = c.Image.PullPolicy
	}
	if c.Resources != nil {
		out.Resources = *c.Resources
	}
	if out.ReadinessProbe == nil {
		out.ReadinessProbe = &corev1.Probe{PeriodSeconds: 2, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(readyPort)}}}
	}
	for _, l := range slices.Backward(p.ports()) {
		out.Ports = slices.Insert(out.Ports, 0, corev1.ContainerPort{ContainerPort: int32(l.Port), Protocol: corev1.ProtocolTCP})
	}
	return out
}
