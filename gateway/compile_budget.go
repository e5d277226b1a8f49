package gateway

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/limit"
	"github.com/mcpgw/mcpgw/policy"
)

// budgetsField is the field of budgets, which add up.
const budgetsField = "budgets"

// budgets compiles the budgets of a TrafficPolicy: the same wherever it is attached. ok is false when they can't be
// kept.
func (c *compiler) budgets(o object, p *v1alpha1.TrafficPolicy) (out []policy.Budget, ok bool) {
	spec := p.Spec.Budgets
	if spec == nil {
		return nil, true
	}
	var store *limit.Redis
	if spec.Redis != nil {
		if store, ok = c.redis(o, "spec.budgets.redis", spec.Redis); !ok {
			return nil, false
		}
	}
	metrics := c.rt.metrics()
	for i := range spec.Limits {
		l := &spec.Limits[i]
		b := policy.Budget{Source: o.String(), Name: l.Name, Metrics: metrics}
		var what string
		b.Unit, b.Most, what = amountOf(l)
		w := windowOf(l.Window)
		b.Shown = fmt.Sprintf("%s a %s", what, w)
		b.ToolCall = toolCall(l, b.Unit)
		for _, k := range l.Per {
			b.Descriptor = append(b.Descriptor, budgetEntry(&k))
		}
		name := o.String() + " " + l.Name + " " + b.Unit.String()
		memory := c.memory("budget "+name, w, o.String(), l.Name)
		b.Counter = memory
		if store != nil {
			b.Counter = store.Counter(name, w, memory)
		}
		out = append(out, b)
	}
	return out, true
}

func amountOf(l *v1alpha1.Budget) (u policy.Unit, most int64, shown string) {
	switch {
	case l.InputTokens > 0:
		u, most = policy.InputTokens, l.InputTokens
	case l.OutputTokens > 0:
		u, most = policy.OutputTokens, l.OutputTokens
	case l.TotalTokens > 0:
		u, most = policy.TotalTokens, l.TotalTokens
	case l.Cost != "":
		return policy.Cost, int64(dollars(l.Cost)), string(l.Cost) + " US dollars"
	default:
		u, most = policy.Requests, l.Requests
	}
	return u, most, fmt.Sprintf("%d %s", most, u)
}

// toolCall returns what a tool call takes.
func toolCall(l *v1alpha1.Budget, u policy.Unit) int64 {
	switch {
	case u == policy.Cost:
		return int64(dollars(l.ToolCall))
	case l.ToolCall == "" && u == policy.Requests:
		return 1
	}
	n, err := strconv.ParseInt(string(l.ToolCall), 10, 64)
	if err != nil {
		return 0 // it is not set: Validate has refused what is no number
	}
	return n
}

// windowOf returns the window of that name. The units of rate limits have the same names.
func windowOf(w v1alpha1.BudgetWindow) limit.Window {
	switch w {
	case v1alpha1.BudgetSecond:
		return limit.Second
	case v1alpha1.BudgetMinute:
		return limit.Minute
	case v1alpha1.BudgetHour:
		return limit.Hour
	case v1alpha1.BudgetDay:
		return limit.Day
	case v1alpha1.BudgetWeek:
		return limit.Week
	default:
		return limit.Month
	}
}

// budgetEntry compiles what requests are told apart by. Those without it have a budget together: to leave it out is no way
// around the budget.
func budgetEntry(k *v1alpha1.BudgetKey) (e policy.Entry) {
	switch {
	case k.Header != "":
		e = policy.FromHeader(k.Header)
	case k.JWTClaim != "":
		e = policy.FromJWT(strings.Split(k.JWTClaim, "."), "")
	default:
		e = policy.FromAPIKey(strings.Split(k.APIKey, "."), "")
	}
	e.Optional = true
	return e
}

// redis returns the Redis of a policy: the one in use, if it is the same.
func (c *compiler) redis(o object, path string, spec *v1alpha1.RedisStore) (*limit.Redis, bool) {
	opts := limit.RedisOptions{
		Address: spec.Address, Database: int(spec.Database), Timeout: spec.Timeout.Value(), Closed: spec.FailureMode == v1alpha1.RedisFailClosed,
	}
	if c.rt != nil {
		opts.Logger = c.rt.opts.Logger
	}
	hash := sha256.New()
	if spec.SecretRef != nil {
		name := types.NamespacedName{Namespace: o.name.Namespace, Name: spec.SecretRef.Name}
		s := c.secrets[name]
		if s == nil {
			c.secretNotFound(o, path+".secretRef.name", name, "Invalid")
			return nil, false
		}
		opts.Username, opts.Password = string(s.Data["username"]), secret.New(strings.TrimRight(string(s.Data["password"]), "\r\n"))
		if opts.Password.IsZero() {
			c.add(o, path+".secretRef.name", finding{class: config.Unresolved, code: config.CodeUnresolvedSecret, help: "the password stands under the key password"},
				"Secret %q has no usable key password", name.Name)
			return nil, false
		}
		_, _ = fmt.Fprintf(hash, "%q %q ", opts.Username, opts.Password.Reveal()) // into a hash
	}
	if t := spec.TLS; t != nil {
		host, _, _ := net.SplitHostPort(spec.Address) // it was checked
		opts.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cmp.Or(t.Hostname, host)}
		if t.SecretRef != nil {
			pool, pem, ok := c.authorities(o, path+".tls.secretRef.name", t.SecretRef.Name)
			if !ok {
				return nil, false
			}
			opts.TLS.RootCAs = pool
			_, _ = hash.Write(pem) // which does not fail
		}
		_, _ = fmt.Fprintf(hash, "tls %s ", opts.TLS.ServerName)
	}
	identity := fmt.Sprintf("redis %s/%d %s %v %x", spec.Address, spec.Database, opts.Timeout, opts.Closed, hash.Sum(nil))
	return kept(c, identity, func() *limit.Redis { return limit.NewRedis(opts) }), true
}
