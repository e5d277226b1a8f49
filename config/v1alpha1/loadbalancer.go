package v1alpha1

// A LoadBalancerType is a way to choose among endpoints.
//
// +kubebuilder:validation:Enum=RoundRobin;LeastRequest;RingHash;Maglev;Random
type LoadBalancerType string

// The ways to choose among endpoints.
const (
	LoadBalancerRoundRobin   LoadBalancerType = "RoundRobin"
	LoadBalancerLeastRequest LoadBalancerType = "LeastRequest"
	LoadBalancerRingHash     LoadBalancerType = "RingHash"
	LoadBalancerMaglev       LoadBalancerType = "Maglev"
	LoadBalancerRandom       LoadBalancerType = "Random"
)

// A LoadBalancer chooses among endpoints.
//
// +kubebuilder:validation:XValidation:rule="!has(self.hashPolicy) || (has(self.type) && self.type in ['RingHash', 'Maglev'])",message="hashPolicy works with type RingHash or Maglev only"
// +kubebuilder:validation:XValidation:rule="!has(self.choiceCount) || !has(self.type) || self.type == 'LeastRequest'",message="choiceCount works with type LeastRequest only"
// +kubebuilder:validation:XValidation:rule="!(has(self.minimumRingSize) || has(self.maximumRingSize)) || (has(self.type) && self.type == 'RingHash')",message="ring sizes work with type RingHash only"
// +kubebuilder:validation:XValidation:rule="!has(self.minimumRingSize) || !has(self.maximumRingSize) || self.minimumRingSize <= self.maximumRingSize",message="minimumRingSize must not be more than maximumRingSize"
type LoadBalancer struct {
	// How to choose. RoundRobin: in turn. LeastRequest: the least busy of a few
	// chosen at random. RingHash and Maglev: the same for requests with the
	// same hash. Random: any. Default: LeastRequest.
	// +optional
	Type LoadBalancerType `json:"type,omitempty"`

	// What RingHash and Maglev hash, 1 to 16 values, combined in order. A
	// request that has none of them goes to any endpoint.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	HashPolicy []HashPolicy `json:"hashPolicy,omitempty"`

	// How many endpoints LeastRequest compares, at least 2. Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=256
	ChoiceCount int32 `json:"choiceCount,omitempty"`

	// The smallest ring of RingHash, 1 to 8388608. Default: 1024.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8388608
	MinimumRingSize int64 `json:"minimumRingSize,omitempty"`

	// The largest ring of RingHash, 1 to 8388608. Default: 8388608.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8388608
	MaximumRingSize int64 `json:"maximumRingSize,omitempty"`

	// Whether RingHash and Maglev hash the name of an endpoint and not its
	// address. Default: false.
	// +optional
	UseHostnameForHashing bool `json:"useHostnameForHashing,omitempty"`

	// How a new endpoint of RoundRobin or LeastRequest comes to its full share.
	// Absent: at once.
	// +optional
	SlowStart *SlowStart `json:"slowStart,omitempty"`

	// The share of usable endpoints, 0 to 100, below which all are used. Default:
	// 50.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	HealthyPanicThreshold *int32 `json:"healthyPanicThreshold,omitempty"`

	// How long after a change of which endpoints can be used (health checks,
	// ejections) further ones are collected, to apply together at its end. 0s
	// means not at all. Endpoints come and go at once. Default: 1s.
	// +optional
	UpdateMergeWindow Duration `json:"updateMergeWindow,omitempty"`

	// How localities are weighed, which are the zones that EndpointSlices name:
	// with WeightedLb each gets requests by the number of its endpoints, and
	// less only when fewer than 1 in 1.4 of them can be used. Absent: they are
	// not weighed, and what an endpoint can't take goes to all others.
	// +optional
	LocalityType LocalityType `json:"localityType,omitempty"`

	// Whether connections to an endpoint that goes are closed. Default: false.
	// +optional
	CloseConnectionsOnHostSetChange bool `json:"closeConnectionsOnHostSetChange,omitempty"`
}

// A LocalityType says how localities are weighed.
//
// +kubebuilder:validation:Enum=WeightedLb
type LocalityType string

// The locality types.
const LocalityWeightedLb LocalityType = "WeightedLb"

// A SlowStart gives a new endpoint a growing share.
type SlowStart struct {
	// How long it takes. Required.
	Window Duration `json:"window"`

	// How the share grows: a decimal number above 0; 1.0 is evenly. Default:
	// 1.0.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^[0-9]{1,6}(\.[0-9]{1,6})?$`
	// +kubebuilder:validation:XValidation:rule="double(self) > 0.0",message="aggression must be more than 0"
	Aggression string `json:"aggression,omitempty"`

	// The least share, in percent, 0 to 100. Default: 10.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MinWeightPercent *int32 `json:"minWeightPercent,omitempty"`
}

// A HashPolicy is one value that is hashed.
//
// +kubebuilder:validation:XValidation:rule="[has(self.header), has(self.cookie), has(self.sourceIP)].filter(x, x).size() == 1",message="set exactly one of header, cookie and sourceIP"
type HashPolicy struct {
	// The value of a header. Exactly one of header, cookie and sourceIP is set.
	// +optional
	Header *HashHeader `json:"header,omitempty"`

	// The value of a cookie.
	// +optional
	Cookie *HashCookie `json:"cookie,omitempty"`

	// The client's address. Write sourceIP: {}.
	// +optional
	SourceIP *HashSourceIP `json:"sourceIP,omitempty"`

	// Whether the entries after this one are left out when this one has a
	// value. Default: false.
	// +optional
	Terminal bool `json:"terminal,omitempty"`
}

// A HashHeader hashes a header.
type HashHeader struct {
	// The name of the header. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_|~-]+$"
	HeaderName string `json:"headerName"`
}

// A HashSourceIP hashes the client's address. It has no settings.
type HashSourceIP struct{}

// A CookieSameSite is the SameSite attribute of a cookie.
//
// +kubebuilder:validation:Enum=Strict;Lax;None
type CookieSameSite string

// The SameSite attributes.
const (
	CookieSameSiteStrict CookieSameSite = "Strict"
	CookieSameSiteLax    CookieSameSite = "Lax"
	CookieSameSiteNone   CookieSameSite = "None"
)

// A HashCookie hashes a cookie.
type HashCookie struct {
	// The name of the cookie. Required.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`

	// How long a cookie lasts that the gateway makes where there is none; 0s
	// means as long as the browser runs. Absent: the gateway makes none.
	// +optional
	TTL *Duration `json:"ttl,omitempty"`

	// The Path of a cookie that the gateway makes. Default: none.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`

	// Whether that cookie is Secure. Default: false.
	// +optional
	Secure bool `json:"secure,omitempty"`

	// Whether that cookie is HttpOnly. Default: false.
	// +optional
	HTTPOnly bool `json:"httpOnly,omitempty"`

	// The SameSite of that cookie. Default: none.
	// +optional
	SameSite CookieSameSite `json:"sameSite,omitempty"`
}

// An OutlierDetection stops using endpoints that fail. At least one endpoint may
// always be ejected, and when all are, all are used.
type OutlierDetection struct {
	// How many failures in a row eject an endpoint: 5xx responses, connections
	// that fail or break, timeouts. 0 switches it off. Default: 5.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=0
	Consecutive5xx *int32 `json:"consecutive5xx,omitempty"`

	// How often success rates are compared and ejected endpoints come back.
	// Default: 10s.
	// +optional
	// +kubebuilder:default="10s"
	Interval Duration `json:"interval,omitempty"`

	// How long an ejection lasts, times how often the endpoint was ejected, at
	// most 300s. Default: 30s.
	// +optional
	// +kubebuilder:default="30s"
	BaseEjectionTime Duration `json:"baseEjectionTime,omitempty"`

	// The largest share of endpoints that may be ejected, 0 to 100. Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxEjectionPercent *int32 `json:"maxEjectionPercent,omitempty"`

	// How likely failures in a row eject, in percent, 0 to 100. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	EnforcingConsecutive5xx *int32 `json:"enforcingConsecutive5xx,omitempty"`

	// How likely a low success rate ejects, in percent, 0 to 100. Success rates
	// are compared when this or another successRate field is set. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	EnforcingSuccessRate *int32 `json:"enforcingSuccessRate,omitempty"`

	// How many endpoints must have enough requests for success rates to be
	// compared. Default: 5.
	// +optional
	// +kubebuilder:validation:Minimum=0
	SuccessRateMinimumHosts *int32 `json:"successRateMinimumHosts,omitempty"`

	// How many requests of an endpoint in an interval are enough. Default: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	SuccessRateRequestVolume *int32 `json:"successRateRequestVolume,omitempty"`

	// How far below the mean a success rate may be, in thousandths of the
	// standard deviation. Default: 1900.
	// +optional
	// +kubebuilder:validation:Minimum=0
	SuccessRateStdevFactor *int32 `json:"successRateStdevFactor,omitempty"`
}

// A TCPKeepalive probes idle connections. What is absent is as the system has it.
type TCPKeepalive struct {
	// How many probes without an answer end a connection. Default: the
	// system's.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Probes *int32 `json:"probes,omitempty"`

	// How long a connection is idle before the first probe, at least 1s.
	// Default: the system's.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="time must be at least 1s"
	Time Duration `json:"time,omitempty"`

	// The time between probes, at least 1s. Default: the system's.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="interval must be at least 1s"
	Interval Duration `json:"interval,omitempty"`
}
