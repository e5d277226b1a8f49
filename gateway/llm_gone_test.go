package gateway

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpgw/mcpgw/internal/llmtest"
)

// leaveTime is how long the end of a client may take to reach the provider. It takes at most
// leanMoment, and 50 ms are promised; a machine that runs other tests beside this one may let
// a process wait for much longer, so that what is asserted is only that no clock was waited
// for. That nothing else is waited for, package llm shows on a clock of its own.
const leaveTime = 10 * time.Second

// A client that goes away ends the request at the provider at once, whatever is waited for,
// and nobody else is asked.
func TestLLMFaultsClientGone(t *testing.T) {
	second := llmtest.Start(llmtest.Anthropic)
	t.Cleanup(second.Close)
	var worst time.Duration
	n := 0
	for _, f := range llmtest.Faults() {
		if !f.Slow {
			continue
		}
		p, err := llmtest.Fail(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		for _, v := range llmtest.Everyone {
			g := start(t, llmtest.Backend("model", llmtest.Provider(v, p.Host, p.Port, ""), second.Provider("")))
			want := 0
			for _, client := range llmtest.Dialects {
				for _, stream := range []bool{false, true} {
					if stream && !f.Stream || !stream && !f.Whole {
						continue
					}
					body := client.Request("hi", stream)
					c, err := net.Dial("tcp", strings.TrimPrefix(g.url("8080", ""), "http://"))
					if err != nil {
						t.Fatal(err)
					}
					_, err = fmt.Fprintf(c, "POST /llm/model%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", client.Path("asked", stream), len(body), body)
					if err != nil {
						t.Fatal(err)
					}
					<-p.Waits
					gone := time.Now()
					if err := c.Close(); err != nil {
						t.Fatal(err)
					}
					select {
					case left := <-p.Left:
						worst = max(worst, left.Sub(gone))
					case <-time.After(leaveTime):
						t.Fatalf("%s at %s, %s, stream %v: the provider goes on", f.Name, v, client, stream)
					}
					want++
					n++
				}
			}
			for _, rec := range g.ended(want) {
				if rec.ErrorType != "client_gone" || rec.Attempts != 1 {
					t.Errorf("%s at %s: error %q after %d attempts", f.Name, v, rec.ErrorType, rec.Attempts)
				}
			}
			g.stop()
		}
	}
	if len(second.Asked()) > 0 {
		t.Error("another provider was asked for a client that was gone")
	}
	t.Logf("the slowest of %d providers was left within %v", n, worst)
}

// What a provider signs goes to nobody else: a turn with thoughts and calls of the first
// provider is taken up by the second, which never reads the signature, and by the first again,
// which gets it back. What Claude signs is good at all who serve Claude, and bytes of Google's own
// client pass at both of Google's APIs.
func TestLLMFaultsSignatures(t *testing.T) {
	const signature = "c2lnbmVkLWJ5LXRoZS1maXJzdC1vbmUtYW5kLWZvci1pdC1vbmx5"
	turn := llmtest.Answer{Thought: "let me see", Signature: signature, Calls: []llmtest.Call{{ID: "call_1", Name: "weather", Arguments: `{"city":"Rome"}`}, {ID: "call_2", Name: "weather", Arguments: `{"city":"Oslo"}`}}}
	for _, from := range llmtest.Everyone {
		if from == llmtest.BedrockNova {
			continue // it signs nothing
		}
		for _, to := range llmtest.Everyone {
			if from == to {
				continue
			}
			model2 := ""
			if slices.Contains(llmtest.Vendors, to) {
				model2 = "model: second"
			}
			for _, client := range llmtest.Dialects {
				if from == llmtest.OpenAI && client != llmtest.Responses {
					continue // chat completions have no signatures
				}
				shared := isClaude(from) && isClaude(to) || isGemini(from) && isGemini(to) && client == llmtest.Generate
				t.Run(fmt.Sprintf("%s to %s by %s", from, to, client), func(t *testing.T) {
					first, second := llmtest.Start(from), llmtest.Start(to)
					defer first.Close()
					defer second.Close()
					first.Says(turn)
					model := ""
					switch {
					case from == llmtest.Gemini:
						model = "model: gemini-3-pro" // whose signatures are wanted back
					case slices.Contains(llmtest.Vendors, from):
						model = "model: first"
					}
					g := start(t, llmtest.Backend("model", first.Provider(model), second.Provider(model2)))
					ask := func(body string) reply {
						r := g.do(http.MethodPost, g.url("8080", "/llm/model"+client.Path("asked", false)), strings.NewReader(body), "Content-Type", "application/json")
						if r.Status != 200 {
							t.Fatalf("%d %s, asked %s\n%v %v", r.Status, r.Body, body, first.Check(), second.Check())
						}
						return r
					}
					next := again(t, client, ask(string(withTool(client, `[]`))).Body)
					ask(next)
					if asked := first.Asked(); !strings.Contains(string(asked[1].Body), signature) {
						t.Errorf("the first does not get its signature back: %s\nof %s", asked[1].Body, next)
					}
					first.Says(llmtest.Answer{Status: 503, Text: "down"})
					ask(next)
					asked := second.Asked()
					if len(asked) != 1 || strings.Contains(string(asked[0].Body), signature) != shared {
						t.Errorf("the second gets %s", asked[0].Body)
					}
					if err := second.Check(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

func isClaude(v llmtest.Vendor) bool {
	return v == llmtest.Anthropic || v == llmtest.VertexClaude || v == llmtest.BedrockClaude
}

func isGemini(v llmtest.Vendor) bool { return v == llmtest.Gemini || v == llmtest.VertexGemini }

// withTool returns a request with a tool and further turns, a JSON array.
func withTool(client llmtest.Dialect, turns string) []byte {
	more := strings.TrimSuffix(strings.TrimPrefix(turns, "["), "]")
	if more != "" {
		more = "," + more
	}
	const schema = `{"type":"object","properties":{"city":{"type":"string"}}}`
	switch client {
	case llmtest.Messages:
		return fmt.Appendf(nil, `{"model":"asked","max_tokens":4000,"thinking":{"type":"enabled","budget_tokens":1024},"tools":[{"name":"weather","input_schema":%s}],"messages":[{"role":"user","content":"hi"}%s]}`, schema, more)
	case llmtest.Responses:
		return fmt.Appendf(nil, `{"model":"asked","store":false,"include":["reasoning.encrypted_content"],"reasoning":{"effort":"low"},"tools":[{"type":"function","name":"weather","strict":false,"parameters":%s}],"input":[{"role":"user","content":"hi"}%s]}`, schema, more)
	case llmtest.Generate:
		return fmt.Appendf(nil, `{"tools":[{"functionDeclarations":[{"name":"weather","parametersJsonSchema":%s}]}],"generationConfig":{"thinkingConfig":{"includeThoughts":true,"thinkingBudget":1024}},"contents":[{"role":"user","parts":[{"text":"hi"}]}%s]}`, schema, more)
	default:
		return fmt.Appendf(nil, `{"model":"asked","reasoning_effort":"low","tools":[{"type":"function","function":{"name":"weather","parameters":%s}}],"messages":[{"role":"user","content":"hi"}%s]}`, schema, more)
	}
}

// again returns the request with which a client goes on after an answer with calls: it sends
// back what it got, and the results.
func again(t *testing.T, client llmtest.Dialect, answer string) string {
	t.Helper()
	var a struct {
		Choices []struct {
			Message json.RawMessage
		}
		Content    json.RawMessage
		Output     json.RawMessage
		Candidates []struct {
			Content json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(answer), &a); err != nil {
		t.Fatal(err)
	}
	var turn string
	results := ""
	result := func(format, id string) {
		if results != "" {
			results += ","
		}
		results += fmt.Sprintf(format, id)
	}
	switch client {
	case llmtest.Messages:
		var blocks []struct{ Type, ID string }
		unmarshal(t, a.Content, &blocks)
		for _, b := range blocks {
			if b.Type == "tool_use" {
				result(`{"type":"tool_result","tool_use_id":%q,"content":"sunny"}`, b.ID)
			}
		}
		turn = fmt.Sprintf(`{"role":"assistant","content":%s},{"role":"user","content":[%s]}`, a.Content, results)
	case llmtest.Responses:
		var items []struct {
			Type   string
			CallID string `json:"call_id"`
		}
		unmarshal(t, a.Output, &items)
		for _, i := range items {
			if i.Type == "function_call" {
				result(`{"type":"function_call_output","call_id":%q,"output":"sunny"}`, i.CallID)
			}
		}
		turn = strings.TrimSuffix(strings.TrimPrefix(string(a.Output), "["), "]") + "," + results
	case llmtest.Generate:
		var content struct {
			Parts []struct{ FunctionCall *struct{ ID string } }
		}
		unmarshal(t, a.Candidates[0].Content, &content)
		for _, p := range content.Parts {
			if p.FunctionCall != nil {
				result(`{"functionResponse":{"id":%q,"name":"weather","response":{"output":"sunny"}}}`, p.FunctionCall.ID)
			}
		}
		turn = fmt.Sprintf(`%s,{"role":"user","parts":[%s]}`, a.Candidates[0].Content, results)
	default:
		var m struct {
			Calls []struct{ ID string } `json:"tool_calls"`
		}
		unmarshal(t, a.Choices[0].Message, &m)
		for _, c := range m.Calls {
			result(`{"role":"tool","tool_call_id":%q,"content":"sunny"}`, c.ID)
		}
		turn = string(a.Choices[0].Message) + "," + results
	}
	if !strings.Contains(results, "sunny") {
		t.Fatalf("the answer has no calls: %s", answer)
	}
	return string(withTool(client, "["+turn+"]"))
}

func unmarshal(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
}
