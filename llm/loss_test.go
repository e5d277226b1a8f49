package llm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

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

// others are other values where any other one means the same.
var others = map[string]string{
	"end_turn": "max_tokens", "tool_use": "max_tokens", "stop_sequence": "max_tokens", "stop": "length", "tool_calls": "length", "STOP": "MAX_TOKENS", "completed": "incomplete",
}

// changed returns another value of the same type.
func changed(path string, v any) any {
	switch v := v.(type) {
	case string:
		if other, ok := others[v]; ok {
			return other
		}
		switch {
		case strings.HasSuffix(path, ".arguments"):
			return strings.Replace(strings.TrimSuffix(v, "}")+`,"changed":1}`, "{,", "{", 1)
		case strings.HasSuffix(path, ".data") || strings.HasSuffix(path, "_data") || strings.HasSuffix(path, ".url"):
			return v + "AAAA"
		case strings.Contains(v, ".mcpgw:signature:"):
			return "x" + v // the end of it is the signature, which a result does not need
		}
		return v + "x"
	case json.Number:
		if n, err := v.Int64(); err == nil && strings.HasSuffix(strings.ToLower(path), "end_index") || strings.HasSuffix(path, "endIndex") {
			return json.Number(fmt.Sprint(n - 1)) // at the end of the text
		}
		if rest, ok := strings.CutPrefix(v.String(), "-"); ok {
			return json.Number("-1" + rest)
		}
		return json.Number("1" + v.String())
	case bool:
		return !v
	default:
		return v
	}
}

// A matrix is what the fixtures hold: all that clients ask and all that providers reply, each of
// which is tried with every other. What a new folder of cells brings comes in by itself.
type matrix struct {
	asks    []cell // a request each, with its client's dialect
	replies []cell // a whole answer each, with its provider
	vendors []string
}

func newMatrix(t *testing.T) (m matrix) {
	t.Helper()
	seen := map[string]bool{}
	once := func(kind string, body []byte) bool {
		key := kind + string(body)
		fresh := !seen[key]
		seen[key] = true
		return fresh
	}
	for name := range vendors {
		if name != "azure" { // which is asked as OpenAI is
			m.vendors = append(m.vendors, name)
		}
	}
	slices.Sort(m.vendors)
	for _, c := range cells(t) {
		if ask := c.section("client"); json.Valid(ask) && c.section("upstream") != nil && once(c.client, ask) {
			m.asks = append(m.asks, c)
		}
		provider := filepath.Base(filepath.Dir(c.path))
		_, provider, _ = strings.Cut(provider, "-")
		if reply := c.section("reply"); json.Valid(reply) && c.section("reply head") == nil && paths[c.client] != "" && once(provider, reply) {
			m.replies = append(m.replies, c)
		}
	}
	return m
}

// at returns the case of a client at a provider.
func at(client, provider string, ask, reply []byte, head string) *cell {
	name := "reply"
	if !bytes.HasPrefix(reply, []byte("data:")) && !bytes.HasPrefix(reply, []byte("event:")) && vendors[provider] == llm.Bedrock && !json.Valid(reply) {
		name = "frames"
	}
	a := &txtar.Archive{Files: []txtar.File{{Name: "client", Data: ask}, {Name: name, Data: reply}, {Name: "reply head", Data: []byte(head)}}}
	return &cell{path: "testdata/" + client + "-" + provider + "/x.txtar", client: client, vendor: vendors[provider], Archive: a}
}

// decode returns JSON with its numbers as they are written.
func decode(t *testing.T, b []byte) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// with returns v as JSON while a leaf is changed.
func (l *leaf) with(t *testing.T, v any) []byte {
	t.Helper()
	undo := l.change()
	defer undo()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever is changed in a request of any client changes what the provider gets, whoever that
// is, or is named as dropped, or makes the request be refused.
func TestNothingIsLost(t *testing.T) {
	m := newMatrix(t)
	tested := 0
	for _, provider := range m.vendors {
		t.Run(provider, func(t *testing.T) {
			for _, c := range m.asks {
				send := func(body []byte) (upstream string, dropped []string, code int) {
					try := at(c.client, provider, body, []byte("{}"), "400\n")
					s := try.provider(strings.NewReader("{}"))
					w, _ := try.run(t, s, body)
					if h := w.Header().Get("X-Mcpgw-Dropped"); h != "" {
						dropped = strings.Split(h, ", ")
					}
					if s.body == nil {
						return "", nil, 400 // it was not asked: the client is told why
					}
					return s.path + string(s.body), dropped, 200
				}
				before, dropped, code := send(c.section("client"))
				if code == 400 {
					continue
				}
				body := decode(t, c.section("client"))
				for _, l := range leaves("", body, nil, nil) {
					if how(l.path) || l.path == "model" && named(provider) {
						continue
					}
					after, nowDropped, code := send(l.with(t, body))
					if tested++; code == 400 || after != before || covers(dropped, l.path) || covers(nowDropped, l.path) {
						continue
					}
					t.Errorf("%s: %s is lost in silence", c.path, l.path)
				}
			}
		})
	}
	if tested < 5000 {
		t.Errorf("%d leaves were tested", tested)
	}
}

// how reports whether a member says how it is answered, not what is asked.
func how(path string) bool {
	return strings.HasSuffix(path, ".index") || path == "stream" || strings.HasPrefix(path, "stream_options")
}

// named reports whether the configuration of a provider names the model.
func named(provider string) bool { return vendors[provider] == llm.VertexAI }

// asking is a request in each dialect of clients.
var asking = map[string]string{
	"chat":      `{"model":"m","messages":[{"role":"user","content":"hi"}]}`,
	"messages":  `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}`,
	"responses": `{"model":"m","store":false,"input":"hi"}`,
	"gemini":    `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`,
	"count":     `{"model":"m","messages":[{"role":"user","content":"hi"}]}`,
	"tokens":    `{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}`,
	"input":     `{"model":"m","input":"hi"}`,
	"content":   `{"content":{"parts":[{"text":"hi"}]}}`,
	"contents":  `{"requests":[{"content":{"parts":[{"text":"hi"}]}},{"content":{"parts":[{"text":"ho"}]}}]}`,
	"embed":     `{"model":"m","input":["hi","ho"]}`,
}

// wanted returns what a client asks for: an answer, a count of tokens, or embeddings.
func wanted(client string) string {
	switch client {
	case "count", "tokens", "input":
		return "count"
	case "embed", "content", "contents":
		return "embeddings"
	default:
		return "answer"
	}
}

// Whatever is changed in an answer of any provider changes what the client reads, whoever that
// is, or what is recorded, or is named as dropped, or makes the answer be refused.
func TestNoAnswerIsLost(t *testing.T) {
	m := newMatrix(t)
	tested := 0
	for _, client := range slices.Sorted(maps.Keys(asking)) {
		t.Run(client, func(t *testing.T) {
			for _, c := range m.replies {
				if wanted(client) != wanted(c.client) {
					continue
				}
				_, provider, _ := strings.Cut(filepath.Base(filepath.Dir(c.path)), "-")
				get := func(reply []byte) (said string, dropped []string, code int) {
					try := at(client, provider, []byte(asking[client]), reply, "")
					w, rec := try.run(t, try.provider(bytes.NewReader(reply)), []byte(asking[client]))
					if h := w.Header().Get("X-Mcpgw-Dropped"); h != "" {
						dropped = strings.Split(h, ", ")
					}
					body := ids.ReplaceAll(times.ReplaceAll(w.Body.Bytes(), nil), nil)
					return string(body) + string(usageLine(rec)), dropped, w.Code
				}
				before, dropped, code := get(c.section("reply"))
				if code != 200 {
					continue // the provider is asked in another dialect than the one of the reply
				}
				reply := decode(t, c.section("reply"))
				for _, l := range leaves("", reply, nil, nil) {
					if noted(l.path) {
						continue
					}
					after, nowDropped, _ := get(l.with(t, reply))
					at := "answer." + l.path
					if tested++; after == before && !covers(dropped, at) && !covers(nowDropped, at) {
						t.Errorf("%s: %s is lost in silence", c.path, l.path)
					}
				}
			}
		})
	}
	if tested < 1000 {
		t.Errorf("%d leaves were tested", tested)
	}
}

// The same of streams, event by event. What is dropped of them is named in the record.
func TestNoEventIsLost(t *testing.T) {
	streams := map[string]cell{}
	for _, c := range cells(t) {
		provider := filepath.Base(filepath.Dir(c.path))
		if _, provider, _ = strings.Cut(provider, "-"); c.section("reply head") == nil && c.streams() && !strings.Contains(c.path, "error") {
			streams[provider+string(c.wire())] = c
		}
	}
	tested := 0
	for _, client := range []string{"chat", "messages", "responses", "gemini"} {
		t.Run(client, func(t *testing.T) {
			for _, c := range streams {
				_, provider, _ := strings.Cut(filepath.Base(filepath.Dir(c.path)), "-")
				ask := strings.Replace(asking[client], "{", `{"stream":true,`, 1)
				if client == "gemini" {
					ask = asking[client]
				}
				get := func(reply []byte) (said, dropped string, code int) {
					try := at(client, provider, []byte(ask), reply, "")
					try.Comment = []byte("[stream]")
					w, rec := try.run(t, try.provider(bytes.NewReader(reply)), []byte(ask))
					return string(ids.ReplaceAll(times.ReplaceAll(w.Body.Bytes(), nil), nil)) + string(usageLine(rec)), rec.LLM.Dropped, w.Code
				}
				before, dropped, code := get(c.wire())
				if code != 200 {
					continue
				}
				lines := bytes.Split(c.wire(), []byte("\n"))
				for i, line := range lines {
					typ, data, ok := bytes.Cut(line, []byte(" "))
					if !ok || !json.Valid(data) {
						continue
					}
					event := decode(t, data)
					for _, l := range leaves("", event, nil, nil) {
						if noted(l.path) || again(l.path, data) {
							continue
						}
						lines[i] = slices.Concat(typ, []byte(" "), l.with(t, event))
						after, _, _ := get(bytes.Join(lines, []byte("\n")))
						if tested++; after == before && !names(dropped, l.path) {
							t.Errorf("%s: %s of event %s is lost in silence", c.path, l.path, data)
						}
					}
					lines[i] = line
				}
			}
		})
	}
	if tested < 500 {
		t.Errorf("%d leaves were tested", tested)
	}
}

// wire returns the lines of a stream: of events, or those that stand for frames.
func (c *cell) wire() []byte {
	if frames := c.raw("frames"); frames != nil {
		return frames
	}
	return c.raw("reply")
}

// names reports whether a list of what was dropped names a member of an event: in streams its
// place begins elsewhere.
func names(dropped, path string) bool {
	for _, p := range strings.Split(dropped, ",") {
		p = p[strings.LastIndexByte(p, '.')+1:]
		if p, _, _ = strings.Cut(p, "["); p != "" && strings.Contains(path, strings.TrimSuffix(p, "s")) {
			return true
		}
	}
	return false
}

// again reports whether a member of an event says what another event says, too: which item it is
// about, or what was said of it bit by bit; or belongs to the provider's own tools.
func again(path string, event []byte) bool {
	var head struct {
		Type string `json:"type"`
		Item struct {
			Type string `json:"type"`
		} `json:"item"`
	}
	if json.Unmarshal(event, &head) != nil {
		return false
	}
	switch path[strings.LastIndexByte(path, '.')+1:] {
	case "model", "modelVersion", "responseId", "sequence_number", "output_index", "content_index", "summary_index", "annotation_index", "item_id", "obfuscation":
		return true
	case "partial_json":
		return bytes.Contains(event, []byte(`"partial_json":"{}"`))
	}
	switch head.Type {
	case "message_start":
		return strings.HasPrefix(path, "message.usage.")
	case "response.output_item.done":
		return head.Item.Type != "image_generation_call"
	case "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added", "response.reasoning_summary_part.added":
		return true
	}
	return strings.HasPrefix(head.Type, "response.") && (strings.HasSuffix(head.Type, ".done") || strings.HasPrefix(path, "response.output["))
}

// noted reports whether a member is what a provider notes for itself, or says again what
// another says.
func noted(path string) bool {
	end := path[strings.LastIndexByte(path, '.')+1:]
	if i := strings.IndexByte(end, '['); i >= 0 {
		end = end[:i]
	}
	switch end {
	case "id", "index", "object", "created", "created_at", "role", "type", "status": // the envelope, which each dialect has in its own way
		return true
	case "total_tokens", "totalTokenCount", "totalTokens", "bytes", "domain": // the sum of others, the token in other words, and a part of the URL
		return true
	case "system_fingerprint", "service_tier", "store", "parallel_tool_calls": // of the provider, or the request again
		return true
	case "latencyMs": // of the provider
		return true
	case "encrypted_index": // what the provider wants back, and nobody else can read
		return true
	case "billableCharacterCount", "tokenCount", "modality": // likewise: of which kind the tokens are that are not sound
		return true
	case "audio_tokens", "web_search_requests": // no part of the usage that all have
		return true
	case "text": // of a segment: what the answer says there
		return strings.HasSuffix(path, "].segment.text")
	}
	return false
}

// covers reports whether one of the paths holds what stands at path.
func covers(paths []string, path string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		rest, ok := strings.CutPrefix(path, p)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}
