package policy

import (
	"slices"
	"strings"

	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// sizes bounds what the variables hold, so that the cost of most expressions is known
// before they are evaluated. What it does not know makes the cost unbounded.
type sizes struct{}

var _ checker.CostEstimator = sizes{}

// What the accept station and the catalogue let through: entries of request.headers and
// request.query, and bytes of a path, a name or a URI.
const (
	maxHeaders = 100
	maxName    = 8 << 10
)

// EstimateSize implements [checker.CostEstimator].
func (sizes) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	switch p := n.Path(); {
	case slices.Contains(p, "arguments"):
		return nil
	case len(p) == 2 && p[0] == "request" && (p[1] == "headers" || p[1] == "query"):
		return &checker.SizeEstimate{Max: maxHeaders}
	case len(p) == 3 && p[0] == "mcp", len(p) == 2 && p[0] == "request":
		return &checker.SizeEstimate{Max: maxName}
	case n.Type() != nil && n.Type().Kind() == types.StringKind:
		return &checker.SizeEstimate{Max: maxText}
	}
	return nil
}

// EstimateCallCost implements [checker.CostEstimator] for the functions of this
// package: it is the most that costs counts.
func (sizes) EstimateCallCost(function, overload string, _ *checker.AstNode, _ []checker.AstNode) *checker.CallEstimate {
	if function == inCIDR {
		return &checker.CallEstimate{CostEstimate: checker.CostEstimate{Min: 1, Max: addressCost}}
	}
	if !ownFunction(overload) {
		return nil
	}
	most := checker.CostEstimate{Min: 1, Max: 4 * maxText / bytesPerCost}
	if perByte(function) {
		most.Max = 4 * maxText
	}
	return &checker.CallEstimate{CostEstimate: most, ResultSize: &checker.SizeEstimate{Max: maxText}}
}

// costs counts what calls of the functions of this package cost, in CEL's units: as much
// as CEL counts for going over strings, and as much as for making lists.
type costs struct{}

var _ interpreter.ActualCostEstimator = costs{}

// What a comparison with a CIDR costs, and how many bytes of a string cost one.
const (
	addressCost  = 10
	bytesPerCost = 10
)

// CallCost implements [interpreter.ActualCostEstimator].
func (costs) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	if function == inCIDR {
		cost := uint64(addressCost)
		return &cost
	}
	if !ownFunction(overload) {
		return nil
	}
	cost := uint64(1)
	for _, v := range append(args[:len(args):len(args)], result) {
		size, ok := v.(traits.Sizer)
		if !ok {
			continue
		}
		n, _ := size.Size().(types.Int)
		if _, text := v.(types.String); text && !perByte(function) {
			n /= bytesPerCost
		}
		cost += uint64(n)
	}
	return &cost
}

// perByte reports whether the function does much with each byte: it reads JSON, matches,
// or makes a list.
func perByte(function string) bool {
	return function == "json" || function == "regexReplace" || function == "split"
}

// ownFunction tells the overloads of functions() from those of CEL by their prefixes.
func ownFunction(overload string) bool {
	switch {
	case strings.HasPrefix(overload, "base64_"), overload == "json_string", overload == "regex_replace_string", strings.HasPrefix(overload, "list_join"):
		return true
	}
	for _, name := range []string{"char_at", "index_of", "last_index_of", "lower_ascii", "upper_ascii", "replace", "split", "substring", "trim"} {
		if strings.HasPrefix(overload, "string_"+name) {
			return true
		}
	}
	return false
}
