package v1alpha1

import "testing"

// BenchmarkParse is what one object costs when a file is loaded.
func BenchmarkParse(b *testing.B) {
	const text = `
metadata: {name: a}
spec:
  mcp:
    prefixMode: never
    targets:
    - {name: t, static: {host: s, port: 80}, auth: {secretRef: {name: s}}}
    - {name: u, service: {name: s, port: 80}}`
	obj := object(b, text)
	Normalize(KindBackend, obj)
	b.ReportAllocs()
	for b.Loop() {
		Normalize(KindBackend, obj)
		if _, errs := Parse(KindBackend, obj); errs != nil {
			b.Fatal(errs)
		}
	}
}
