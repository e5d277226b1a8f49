package llmtest

import (
	"fmt"
	"strings"
)

const generateUsage = `"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":7,"totalTokenCount":21},"modelVersion":"` + Model + `","responseId":"r1"`

// generateParts returns the parts of an answer; whole are not cut in two.
func generateParts(a Answer, whole bool) []string {
	cut := halves
	if whole {
		cut = func(s string) []string { return []string{s} }
	}
	var parts []string
	if a.Thought != "" {
		for _, s := range cut(a.Thought) {
			parts = append(parts, `{"text":`+quote(s)+`,"thought":true}`)
		}
	}
	if a.Text != "" {
		for _, s := range cut(a.Text) {
			parts = append(parts, `{"text":`+quote(s)+`}`)
		}
	}
	for i, c := range a.Calls {
		signature := ""
		if i == 0 && a.Signature != "" { // Gemini signs the first of parallel calls
			signature = `,"thoughtSignature":` + quote(a.Signature)
		}
		parts = append(parts, fmt.Sprintf(`{"functionCall":{"id":%q,"name":%q,"args":%s}%s}`, c.ID, c.Name, c.Arguments, signature))
	}
	return parts
}

func generateWhole(a Answer) []byte {
	return fmt.Appendf(nil, `{"candidates":[{"content":{"role":"model","parts":[%s]},"finishReason":"STOP","index":0}],%s}`, strings.Join(generateParts(a, true), ","), generateUsage)
}

func generateStream(a Answer) []Event {
	parts := generateParts(a, false)
	out := []Event{{Wire: []byte("data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]},\"index\":0}]," + generateUsage + "}\r\n\r\n")}}
	for _, p := range parts {
		out = append(out, Event{[]byte("data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[" + p + "]},\"index\":0}]," + generateUsage + "}\r\n\r\n"), true})
	}
	return append(out, Event{Wire: []byte("data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\",\"index\":0}]," + generateUsage + "}\r\n\r\n")})
}
