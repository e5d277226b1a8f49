// Package stats summarises measurements exactly: it keeps every one.
package stats

import (
	"cmp"
	"slices"
)

// Quantile returns the q-quantile of v, 0 <= q <= 1, which it sorts; the zero
// value when v is empty.
func Quantile[T cmp.Ordered](v []T, q float64) T {
	if len(v) == 0 {
		var zero T
		return zero
	}
	slices.Sort(v)
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// Median returns the median of v, which it sorts.
func Median[T cmp.Ordered](v []T) T { return Quantile(v, 0.5) }
