package stats_test

import (
	"testing"

	"github.com/mcpgw/mcpgw/bench/internal/stats"
)

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		v    []int
		q    float64
		want int
	}{
		{nil, 0.5, 0},
		{[]int{7}, 0, 7},
		{[]int{7}, 1, 7},
		{[]int{3, 1, 2}, 0.5, 2},
		{[]int{4, 3, 1, 2}, 0.5, 3},
		{[]int{5, 4, 3, 2, 1, 0, 9, 8, 7, 6}, 0.9, 9},
		{[]int{5, 4, 3, 2, 1, 0, 9, 8, 7, 6}, 0, 0},
	} {
		if got := stats.Quantile(tt.v, tt.q); got != tt.want {
			t.Errorf("Quantile %v, %v is %d, want %d", tt.v, tt.q, got, tt.want)
		}
	}
	if got := stats.Median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("Median is %v", got)
	}
}
