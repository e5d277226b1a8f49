package gateway

import (
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/extension/extproc"
)

// extProcPart has requests and answers go through an external processor.
func (c *compiler) extProcPart(o object, spec *v1alpha1.TrafficPolicySpec) (*webPart, bool) {
	s := spec.ExtProc
	switch {
	case s == nil:
		return nil, true
	case s.ExtensionRef == nil:
		return &webPart{}, true // switched off
	}
	e := c.extension(o, "spec.extProc.extensionRef", s.ExtensionRef, v1alpha1.ExtensionExtProc)
	if e == nil {
		return nil, false
	}
	p := c.processor(e.object, e.spec.ExtProc, s.ProcessingMode)
	if p == nil {
		c.unusable(o, "spec.extProc.extensionRef", e)
		return nil, false
	}
	return &webPart{attach: func(r *rule, _ *compiledRule) { r.interceptors = append(r.interceptors, p) }}, true
}

// processor compiles a GatewayExtension of type ExtProc; nil if it can't be used. mode is that of the policy, if it has one.
func (c *compiler) processor(o object, spec *v1alpha1.ExtProcProvider, mode *v1alpha1.ProcessingMode) *processor {
	if c.res.Broken[o.ref()] {
		return nil
	}
	service := c.grpcService(o, "spec.extProc.grpcService", &spec.GRPCService, 0)
	if service == nil {
		return nil
	}
	if mode == nil {
		mode = spec.ProcessingMode
	}
	p := &processor{reroute: spec.RouteCacheAction}
	if m := spec.MetadataOptions; m != nil && m.Forwarding != nil {
		p.forwards = m.Forwarding.Untyped
	}
	metrics, source, prefix := c.rt.metrics(), o.String(), spec.StatPrefix
	p.Processor = extproc.New(extproc.Options{
		Service: service, Mode: processingMode(mode), FailOpen: spec.FailOpen == nil || *spec.FailOpen,
		Timeout: spec.MessageTimeout.Value(), MaxTimeout: spec.MaxMessageTimeout.Value(),
		Told: func(failure error) {
			result := "ok"
			if failure != nil {
				result = "failed"
			}
			metrics.Extension(source, prefix, result)
		},
	})
	return p
}

// processingMode returns a mode with its defaults.
func processingMode(m *v1alpha1.ProcessingMode) extproc.Mode {
	if m == nil {
		m = &v1alpha1.ProcessingMode{}
	}
	return extproc.Mode{
		RequestHeaders:   m.RequestHeaderMode != v1alpha1.HeaderSkip,
		ResponseHeaders:  m.ResponseHeaderMode != v1alpha1.HeaderSkip,
		RequestBody:      bodyMode(m.RequestBodyMode),
		ResponseBody:     bodyMode(m.ResponseBodyMode),
		RequestTrailers:  m.RequestTrailerMode == v1alpha1.HeaderSend,
		ResponseTrailers: m.ResponseTrailerMode == v1alpha1.HeaderSend,
	}
}

func bodyMode(m v1alpha1.BodySendMode) extproc.BodyMode {
	switch m {
	case v1alpha1.BodySendStreamed:
		return extproc.Streamed
	case v1alpha1.BodySendBuffered:
		return extproc.Buffered
	case v1alpha1.BodySendBufferedPartial:
		return extproc.BufferedPartial
	case v1alpha1.BodySendFullDuplexStreamed:
		return extproc.FullDuplex
	default:
		return extproc.None
	}
}
