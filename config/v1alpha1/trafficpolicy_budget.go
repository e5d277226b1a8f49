package v1alpha1

import (
	"net"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Budgets limit what requests to language models and MCP tool calls take together.
// Requests are admitted by an estimate, which is taken at once and corrected when
// the answer has ended, so that requests at the same time can't use together what
// only one of them may.
type Budgets struct {
	// The budgets, 1 to 16, all of which count. Required.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Limits []Budget `json:"limits"`

	// The Redis in which all gateway processes count together. Absent: each process
	// counts for itself, and of each budget remembers the 16,384 keys that were used
	// last.
	// +optional
	Redis *RedisStore `json:"redis,omitempty"`
}

// A BudgetWindow is the time that a [Budget] is for.
//
// +kubebuilder:validation:Enum=Second;Minute;Hour;Day;Week;Month
type BudgetWindow string

// The windows of budgets.
const (
	BudgetSecond BudgetWindow = "Second"
	BudgetMinute BudgetWindow = "Minute"
	BudgetHour   BudgetWindow = "Hour"
	BudgetDay    BudgetWindow = "Day"
	BudgetWeek   BudgetWindow = "Week"
	BudgetMonth  BudgetWindow = "Month"
)

// A Budget is how much may be taken in each window of time.
//
// +kubebuilder:validation:XValidation:rule="[has(self.requests), has(self.inputTokens), has(self.outputTokens), has(self.totalTokens), has(self.cost)].filter(x, x).size() == 1",message="set exactly one of requests, inputTokens, outputTokens, totalTokens and cost"
type Budget struct {
	// The name, unique among the budgets of the policy: lower-case letters, digits and
	// -. Clients that find it exhausted read it. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// How many requests. Exactly one of requests, inputTokens, outputTokens,
	// totalTokens and cost is set.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Requests int64 `json:"requests,omitempty"`

	// How many tokens of input, those from caches included.
	// +optional
	// +kubebuilder:validation:Minimum=1
	InputTokens int64 `json:"inputTokens,omitempty"`

	// How many tokens of output, reasoning included.
	// +optional
	// +kubebuilder:validation:Minimum=1
	OutputTokens int64 `json:"outputTokens,omitempty"`

	// How many tokens of input and output.
	// +optional
	// +kubebuilder:validation:Minimum=1
	TotalTokens int64 `json:"totalTokens,omitempty"`

	// How many US dollars, by the prices of the Backend, such as "250" or "0.50". A
	// request for a model without a price is refused with 403.
	// +optional
	Cost Dollars `json:"cost,omitempty"`

	// The time that the budget is for. Windows follow the calendar, in UTC; a week
	// begins on Monday. Required.
	Window BudgetWindow `json:"window"`

	// What requests are told apart by: each distinct list of values has a budget of its
	// own. Requests without such a value have one together. Default: nothing, all
	// requests have one budget.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	Per []BudgetKey `json:"per,omitempty"`

	// What an MCP tool call takes, in the unit of the budget, such as "1", or "0.002"
	// of a cost. "0": nothing. Default: 1 of requests, and nothing of others.
	// +optional
	ToolCall Dollars `json:"toolCall,omitempty"`
}

// A BudgetKey is something that requests are told apart by.
//
// +kubebuilder:validation:XValidation:rule="[has(self.header), has(self.jwtClaim), has(self.apiKey)].filter(x, x).size() == 1",message="set exactly one of header, jwtClaim and apiKey"
type BudgetKey struct {
	// The value of a header, which clients choose. Exactly one of header, jwtClaim and
	// apiKey is set.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Header string `json:"header,omitempty"`

	// A claim of the token: its name, or the path to it, such as org.team.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	JWTClaim string `json:"jwtClaim,omitempty"`

	// What is known of the API key: id, or the path to a member of its metadata, such as
	// team.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	APIKey string `json:"apiKey,omitempty"`
}

// A RedisFailureMode says what happens while Redis can't be reached.
//
// +kubebuilder:validation:Enum=FailOpen;FailClosed
type RedisFailureMode string

// The failure modes of a [RedisStore].
const (
	RedisFailOpen   RedisFailureMode = "FailOpen"
	RedisFailClosed RedisFailureMode = "FailClosed"
)

// A RedisStore is a Redis, or what speaks like it, in which is counted.
type RedisStore struct {
	// Host and port, such as redis.cache.svc:6379. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Address string `json:"address"`

	// The Secret with the keys password and, if it is needed, username. Absent: none
	// is shown.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`

	// TLS towards Redis. Write tls: {} to use the system's authorities. Absent: plain
	// text.
	// +optional
	TLS *RedisTLS `json:"tls,omitempty"`

	// The number of the database. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Database int32 `json:"database,omitempty"`

	// How long an answer of Redis is waited for. After a failure Redis is not asked for a
	// second. Default: 250ms.
	// +optional
	Timeout Duration `json:"timeout,omitempty"`

	// What happens while Redis can't be reached. FailOpen: each process counts for
	// itself. FailClosed: requests are answered 503. Default: FailOpen.
	// +optional
	// +kubebuilder:default=FailOpen
	FailureMode RedisFailureMode `json:"failureMode,omitempty"`
}

// A RedisTLS says whom to trust.
type RedisTLS struct {
	// The Secret whose key ca.crt holds the authorities. Absent: the system's.
	// +optional
	SecretRef *LocalRef `json:"secretRef,omitempty"`

	// The name that the certificate has to have. Default: the host of the address.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Hostname string `json:"hostname,omitempty"`
}

func (b *Budgets) rules(p *field.Path) field.ErrorList {
	if b == nil {
		return nil
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range b.Limits {
		l, at := &b.Limits[i], p.Child("limits").Index(i)
		if seen[l.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), l.Name))
		}
		seen[l.Name] = true
		errs = append(errs, exactlyOne(at, choice{"requests", l.Requests != 0}, choice{"inputTokens", l.InputTokens != 0}, choice{"outputTokens", l.OutputTokens != 0},
			choice{"totalTokens", l.TotalTokens != 0}, choice{"cost", l.Cost != ""})...)
		if l.Cost != "" && strings.Trim(string(l.Cost), "0.") == "" {
			errs = append(errs, field.Invalid(at.Child("cost"), string(l.Cost), "must be more than 0"))
		}
		if l.Cost == "" && strings.Contains(string(l.ToolCall), ".") {
			errs = append(errs, field.Invalid(at.Child("toolCall"), string(l.ToolCall), "must be a whole number: only a cost has fractions"))
		}
		for j, k := range l.Per {
			in := at.Child("per").Index(j)
			errs = append(errs, exactlyOne(in, choice{"header", k.Header != ""}, choice{"jwtClaim", k.JWTClaim != ""}, choice{"apiKey", k.APIKey != ""})...)
			if k.Header != "" {
				errs = append(errs, headerName(in.Child("header"), k.Header)...)
			}
		}
	}
	if r := b.Redis; r != nil && r.Address != "" {
		host, port, err := net.SplitHostPort(r.Address)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" {
			errs = append(errs, field.Invalid(p.Child("redis", "address"), r.Address, "write host and port, such as redis:6379"))
		}
	}
	return errs
}
