package llm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mcpgw/mcpgw/llm"
)

// A leaf is a value in a request: how to change it, and where it stands.
type leaf struct {
	path   string
	change func() (undo func())
}

// leaves returns all leaves of a decoded JSON value.
func leaves(path string, v any, set func(any), out []leaf) []leaf {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			at := strings.TrimPrefix(path+"."+k, ".")
			out = leaves(at, v[k], func(x any) { v[k] = x }, out)
		}
	case []any:
		for i := range v {
			out = leaves(fmt.Sprintf("%s[%d]", path, i), v[i], func(x any) { v[i] = x }, out)
		}
	case nil:
	default:
		out = append(out, leaf{path, func() func() {
			set(changed(path, v))
			return func() { set(v) }
		}})
	}
	return out
}

// changed returns another value of the same type.
func changed(path string, v any) any {
	switch v := v.(type) {
	case string:
		switch {
		case strings.HasSuffix(path, ".arguments"):
			return strings.Replace(strings.TrimSuffix(v, "}")+`,"changed":1}`, "{,", "{", 1)
		case strings.HasSuffix(path, ".data") || strings.HasSuffix(path, "_data") || strings.HasSuffix(path, ".url"):
			return v + "AAAA"
		}
		return v + "x"
	case json.Number:
		return json.Number("1" + v.String())
	case bool:
		return !v
	default:
		return v
	}
}

// Whatever is changed in a request changes what the provider gets, is named as dropped, or
// makes the request be refused.
func TestNothingIsLost(t *testing.T) {
	tested := 0
	for _, c := range cells(t) {
		vendor := strings.TrimPrefix(strings.Split(c.path, "/")[1], c.client+"-")
		if own := map[string]string{"chat": "openai", "messages": "anthropic", "gemini": "gemini", "responses": "openai"}[c.client]; own == vendor || c.section("upstream") == nil || strings.Contains(c.path, "error") || strings.Contains(c.path, "unsupported") {
			continue
		}
		t.Run(strings.TrimSuffix(strings.TrimPrefix(c.path, "testdata/"), ".txtar"), func(t *testing.T) {
			ask := func(body []byte) (upstream string, dropped []string, code int) {
				s := c.provider(bytes.NewReader(c.section("reply")))
				w, _ := c.run(t, s, body)
				if h := w.Header().Get("X-Mcpgw-Dropped"); h != "" {
					dropped = strings.Split(h, ", ")
				}
				return s.path + string(s.body), dropped, w.Code
			}
			before, dropped, _ := ask(c.section("client"))
			dec := json.NewDecoder(bytes.NewReader(c.section("client")))
			dec.UseNumber()
			var body any
			if err := dec.Decode(&body); err != nil {
				t.Fatal(err)
			}
			for _, l := range leaves("", body, nil, nil) {
				if l.path == "model" && c.vendor == llm.VertexAI {
					continue // the configuration names one
				}
				if strings.HasSuffix(l.path, ".index") || l.path == "stream" || strings.HasPrefix(l.path, "stream_options") {
					continue // how it is answered, not what is asked
				}
				undo := l.change()
				b, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				undo()
				after, nowDropped, code := ask(b)
				if code == 400 || after != before || covers(dropped, l.path) || covers(nowDropped, l.path) {
					tested++
					continue
				}
				t.Errorf("%s is lost in silence", l.path)
			}
		})
	}
	if tested < 100 {
		t.Errorf("%d leaves were tested", tested)
	}
}

// covers reports whether one of the paths holds what stands at path.
func covers(paths []string, path string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		rest, ok := strings.CutPrefix(path, p)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}
