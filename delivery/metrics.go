package delivery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// Metrics are the Prometheus series of a [Server]. All methods are safe for concurrent use, and do nothing on a nil Metrics.
type Metrics struct {
	planes    *prometheus.GaugeVec
	published prometheus.Counter
	answers   *prometheus.CounterVec
	answered  prometheus.Histogram
	tokens    *prometheus.CounterVec
}

// NewMetrics returns metrics that have counted nothing, registered at r.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		planes:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mcpgw_controller_data_planes", Help: "Data planes that are connected, by their ServiceAccount, which has the name of their Gateway."}, []string{"namespace", "gateway"}),
		published: prometheus.NewCounter(prometheus.CounterOpts{Name: "mcpgw_controller_publishes_total", Help: "Changes of what data planes are to have."}),
		answers:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mcpgw_controller_answers_total", Help: "What data planes were sent, by what they said to it: acked, nacked, or silent."}, []string{"result"}),
		answered: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "mcpgw_controller_ack_duration_seconds", Help: "Time from sending a change to a data plane to its acknowledgement.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mcpgw_controller_tokens_total", Help: "Tokens that data planes have shown, by what they proved: accepted, refused, or unverifiable."}, []string{"result"}),
	}
	r.MustRegister(m.planes, m.published, m.answers, m.answered, m.tokens)
	return m
}

// connected notes how many data planes of an account there are. Those that have none have no series.
func (m *Metrics) connected(account types.NamespacedName, n int) {
	switch {
	case m == nil:
	case n == 0:
		m.planes.DeleteLabelValues(account.Namespace, account.Name)
	default:
		m.planes.WithLabelValues(account.Namespace, account.Name).Set(float64(n))
	}
}

func (m *Metrics) publish() {
	if m != nil {
		m.published.Inc()
	}
}

// answer counts what a data plane said to what it was sent; after is how long that took it, for an acknowledgement.
func (m *Metrics) answer(result string, after time.Duration) {
	if m == nil {
		return
	}
	m.answers.WithLabelValues(result).Inc()
	if result == "acked" {
		m.answered.Observe(after.Seconds())
	}
}

func (m *Metrics) token(result string) {
	if m != nil {
		m.tokens.WithLabelValues(result).Inc()
	}
}
