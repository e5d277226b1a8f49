package app

import "slices"

// closest returns the candidate that name is most likely a misspelling of, or
// "". Candidates that differ in more than a third of their letters are none.
func closest(name string, candidates []string) string {
	best, bestDistance := "", 0
	for _, candidate := range slices.Sorted(slices.Values(candidates)) {
		if len(candidate) > 256 || len(name) > 256 {
			continue
		}
		d := distance(name, candidate)
		if d <= max(len(name), len(candidate))/3 && (best == "" || d < bestDistance) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance returns how many bytes have to be inserted, removed or replaced to
// make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
