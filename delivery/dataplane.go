package delivery

import (
	"cmp"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mcpgw/mcpgw/config"
)

const (
	// Lingers is how long a data plane that left still counts: within that time all are back that are well. A server
	// that has begun less long ago does not know of all.
	Lingers = 2 * retryMost
	// maxLeft bounds how many of an account are remembered that left.
	maxLeft = 256
	// maxProblems and maxText bound what a data plane says of itself: problems, and bytes of a text.
	maxProblems = 100
	maxText     = 1024
)

// A DataPlane is how a data plane stands, as it says itself. It is plain data, and read-only.
type DataPlane struct {
	// Node tells it from others of its ServiceAccount.
	Node string `json:"node"`
	// Gateways are the versions of the Gateways that it has taken, by name.
	Gateways map[string]string `json:"gateways,omitempty"`
	// Refuses says why it did not take what it was sent last; "" if it did, or has not answered yet.
	Refuses string `json:"refuses,omitempty"`
	// Problems are those that it alone can find, such as a port that can't be opened.
	Problems []Finding `json:"problems,omitempty"`
}

// A Finding is a problem that a data plane tells of.
type Finding struct {
	Object  config.ObjectRef `json:"object"`
	Path    string           `json:"path,omitempty"`
	Code    string           `json:"code,omitempty"`
	Reason  string           `json:"reason,omitempty"`
	Message string           `json:"message"`
	Help    string           `json:"help,omitempty"`
}

// problemsField is the field of a node's metadata with its problems.
const problemsField = "problems"

// nodeOf writes how a data plane stands, for its requests.
func nodeOf(id string, findings []Finding) *corev3.Node {
	node := &corev3.Node{Id: id}
	text, err := json.Marshal(map[string]any{problemsField: findings})
	if len(findings) == 0 || err != nil { // which plain data has not
		return node
	}
	node.Metadata = &structpb.Struct{}
	if node.Metadata.UnmarshalJSON(text) != nil {
		node.Metadata = nil
	}
	return node
}

// findingsOf reads what a data plane says of itself, as far as it is of any use.
func findingsOf(node *corev3.Node) []Finding {
	field, ok := node.GetMetadata().GetFields()[problemsField]
	if !ok {
		return nil
	}
	text, err := field.MarshalJSON()
	var out []Finding
	if err != nil || json.Unmarshal(text, &out) != nil {
		return nil
	}
	out = out[:min(len(out), maxProblems)]
	for i := range out {
		f := &out[i]
		for _, s := range []*string{&f.Object.Kind, &f.Object.Namespace, &f.Object.Name, &f.Path, &f.Code, &f.Reason, &f.Message, &f.Help} {
			*s = clip(*s)
		}
	}
	return out
}

// clip returns the beginning of a text that a data plane sent.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// A departed is a data plane that left.
type departed struct {
	DataPlane
	at time.Time
}

// DataPlanes returns the data planes that are connected, and those that were within the last [Lingers], by their ServiceAccount and ordered by
// node.
func (s *Server) DataPlanes() map[types.NamespacedName][]DataPlane {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[types.NamespacedName][]DataPlane{}
	for account, planes := range s.connected {
		out[account] = slices.Collect(maps.Values(planes))
	}
	for account, planes := range s.left {
		for _, d := range planes {
			if time.Since(d.at) < Lingers {
				out[account] = append(out[account], d.DataPlane)
			}
		}
	}
	for _, planes := range out {
		slices.SortFunc(planes, func(a, b DataPlane) int { return cmp.Compare(a.Node, b.Node) })
	}
	return out
}

// Connected returns how many data planes of a ServiceAccount there are.
func (s *Server) Connected(account types.NamespacedName) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connected[account])
}

// stands notes how a data plane stands.
func (s *Server) stands(f *follower) {
	now := DataPlane{Node: f.node, Refuses: f.refuses, Problems: f.findings}
	for name, version := range f.known {
		if strings.HasPrefix(name, "Gateway/") {
			if now.Gateways == nil {
				now.Gateways = map[string]string{}
			}
			now.Gateways[name] = version
		}
	}
	s.mu.Lock()
	before, there := s.connected[f.account][f]
	if !there && s.connected[f.account] == nil {
		s.connected[f.account] = map[*follower]DataPlane{}
	}
	s.connected[f.account][f] = now
	delete(s.left[f.account], f.node)
	s.opts.Metrics.connected(f.account, len(s.connected[f.account]))
	s.mu.Unlock()
	if !there || !reflect.DeepEqual(before, now) {
		s.turned()
	}
}

// leaves notes that a data plane has left, or may have: it is forgotten if it does not come back.
func (s *Server) leaves(f *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, there := s.connected[f.account][f]
	if !there { // it has not said anything
		return
	}
	if delete(s.connected[f.account], f); len(s.connected[f.account]) == 0 {
		delete(s.connected, f.account)
	}
	s.opts.Metrics.connected(f.account, len(s.connected[f.account]))
	if len(s.left[f.account]) < maxLeft {
		if s.left[f.account] == nil {
			s.left[f.account] = map[string]departed{}
		}
		s.left[f.account][f.node] = departed{last, time.Now()}
		s.forgetting.Go(func() { s.forget(f.account, f.node) })
	}
}

// forget forgets a data plane, unless it is back by then or left again later.
func (s *Server) forget(account types.NamespacedName, node string) {
	select {
	case <-s.ended:
		return
	case <-time.After(Lingers):
	}
	s.mu.Lock()
	d, there := s.left[account][node]
	gone := there && time.Since(d.at) >= Lingers
	if gone {
		if delete(s.left[account], node); len(s.left[account]) == 0 {
			delete(s.left, account)
		}
	}
	s.mu.Unlock()
	if gone {
		s.turned()
	}
}

// turned tells that data planes stand in another way than before.
func (s *Server) turned() {
	if s.opts.OnDataPlanes != nil {
		s.opts.OnDataPlanes()
	}
}
