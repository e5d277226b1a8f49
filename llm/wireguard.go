package llm

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mcpgw/mcpgw/guard"
	"github.com/mcpgw/mcpgw/internal/events"
	"github.com/mcpgw/mcpgw/internal/jsonpath"
	"github.com/mcpgw/mcpgw/llm/dialect"
)

// A wireGuard masks an answer that is streamed in the dialect that the provider speaks: of each event the
// strings that hold a text are replaced where they have to be, and an event is added where a text ends of
// which something was held.
type wireGuard struct {
	a        *attempt
	guard    *guard.Answer
	channels map[string]*channel // the texts that are open
	order    []string            // of their keys
	open     map[int]string      // Gemini: the text of a candidate that is open
	turn     int
	gave     bool // some text
	found    bool // something was masked
}

// A channel is one text that comes in pieces.
type channel struct {
	filter filter
	// carry returns an event that carries more of the text.
	carry func(text string) events.Event
}

// A piece is a string of an event that is a part of a text.
type piece struct {
	place jsonpath.Place
	key   string
	kind  textKind
	whole bool // all of the text
	carry func(text string) events.Event
}

// A wirePart is what a [wireGuard] finds in an event, in its order: a piece, or the end of the texts
// whose keys begin with ends.
type wirePart struct {
	piece
	ends   string
	ending bool
}

func (a *attempt) newWireGuard(g *guard.Answer) *wireGuard {
	return &wireGuard{a: a, guard: g, channels: map[string]*channel{}, open: map[int]string{}}
}

// pass calls send for each event that an event becomes. Its error is the rejection, or that the event can't be
// read, so that nobody knows what is in it.
func (g *wireGuard) pass(ev *events.Event, send func(events.Event)) error {
	parts, err := g.read(ev)
	if err != nil {
		return err
	}
	texts := make([]string, len(parts)) // as they may pass
	for i := range parts {
		p := &parts[i]
		switch {
		case p.ending:
			if err := g.end(parts[:i], texts, p.ends, send); err != nil {
				return err
			}
		case p.kind == signature:
			if texts[i] = p.place.Text(ev.Data); texts[i] == "" {
				continue
			}
			if g.changedAt(p.key, parts[:i], texts, ev.Data) {
				texts[i] = g.a.nobodys()
				g.a.lose("signature")
			}
		case p.whole:
			text := p.place.Text(ev.Data)
			masked, rejected := g.guard.Regex.Check(text)
			if p.kind == arguments {
				masked, rejected = maskArguments(g.guard.Regex, text)
			}
			if rejected {
				return g.guard.Rejected()
			}
			texts[i] = masked
		default:
			c := g.channels[p.key]
			if c == nil {
				c = &channel{filter: newFilter(g.guard.Regex, p.kind)}
				g.channels[p.key] = c
				g.order = append(g.order, p.key)
			}
			c.carry = p.carry
			text, rejected := c.filter.write(p.place.Text(ev.Data))
			if rejected {
				return g.guard.Rejected()
			}
			texts[i] = text
		}
	}
	var changed []int
	for i := range parts {
		if p := &parts[i]; !p.ending && texts[i] != p.place.Text(ev.Data) {
			changed = append(changed, i)
		}
	}
	for _, text := range texts {
		g.gave = g.gave || text != ""
	}
	out := *ev
	if len(changed) > 0 {
		slices.SortFunc(changed, func(i, j int) int { return cmp.Compare(parts[i].place.Start, parts[j].place.Start) })
		var places []jsonpath.Place
		var now []string
		for _, i := range changed {
			places, now = append(places, parts[i].place), append(now, texts[i])
		}
		out.Data = jsonpath.Replace(ev.Data, places, now)
	}
	// What is said of single tokens tells what is held or was masked.
	if len(changed) > 0 || g.hides() {
		out.Data = g.a.withoutTokens(out.Data)
	}
	send(out)
	return nil
}

// hides reports whether something of the answer was masked or is held.
func (g *wireGuard) hides() bool {
	for _, c := range g.channels {
		g.found = g.found || changedBy(c.filter)
		switch f := c.filter.(type) {
		case textFilter:
			if f.Held() {
				return true
			}
		case *argumentFilter:
			if f.pending != "" || f.text != nil && f.text.Held() {
				return true
			}
		}
	}
	return g.found
}

// end ends the texts whose keys begin with prefix. What was held of one goes into its last piece in the
// event, or into an event before it.
func (g *wireGuard) end(before []wirePart, texts []string, prefix string, send func(events.Event)) error {
	left := g.order[:0]
	for _, key := range g.order {
		c := g.channels[key]
		if !strings.HasPrefix(key, prefix) {
			left = append(left, key)
			continue
		}
		text, rejected := c.filter.close()
		if rejected {
			return g.guard.Rejected()
		}
		if !changedBy(c.filter) {
			delete(g.channels, key)
		} else {
			g.found = true
			g.channels[key] = &channel{filter: c.filter} // for the signature that may come
		}
		if text == "" {
			continue
		}
		into := -1
		for i := range before {
			if !before[i].ending && before[i].key == key && before[i].kind != signature {
				into = i
			}
		}
		if into >= 0 {
			texts[into] += text
		} else {
			more := c.carry(text)
			more.Data = g.a.withoutTokens(more.Data)
			send(more)
			g.gave = true
		}
	}
	g.order = left
	return nil
}

// changedAt reports whether what a signature is for was masked.
func (g *wireGuard) changedAt(key string, before []wirePart, texts []string, data []byte) bool {
	for i := range before {
		if p := &before[i]; !p.ending && p.key == key && p.whole && texts[i] != p.place.Text(data) {
			return true
		}
	}
	c := g.channels[key]
	return c != nil && changedBy(c.filter)
}

// finish ends all texts, before the end of the stream.
func (g *wireGuard) finish(send func(events.Event)) error { return g.end(nil, nil, "", send) }

// read returns what an event holds.
func (g *wireGuard) read(ev *events.Event) ([]wirePart, error) {
	switch g.a.form {
	case messages:
		return g.readMessages(ev)
	case generate:
		return g.readContents(ev)
	case respond:
		return g.readResponse(ev)
	default:
		return g.readChunk(ev)
	}
}

// kept returns a copy of data, which is valid until the next event only.
func kept(data []byte, places []jsonpath.Place) []byte {
	if len(places) == 0 {
		return nil
	}
	return bytes.Clone(data)
}

// again returns an event as another that has one string less or more, and everything else.
func again(ev *events.Event, place jsonpath.Place) func(string) events.Event {
	data := bytes.Clone(ev.Data)
	typ := ev.Type
	return func(text string) events.Event {
		return events.Event{Type: typ, Data: jsonpath.Replace(data, []jsonpath.Place{place}, []string{text})}
	}
}

var chunkPaths = textsOf(append(append([]answerPath{
	{"choices[*].delta.content", spoken, 1}, {"choices[*].delta.refusal", thought, 1},
	{"choices[*].delta.reasoning_content", thought, 1}, {"choices[*].delta.reasoning", thought, 1},
	{"choices[*].delta.reasoning_details[*].text", thought, 2}, {"choices[*].delta.reasoning_details[*].summary", thought, 2},
	{"choices[*].delta.reasoning_details[*].signature", signature, 2},
	{"choices[*].delta.tool_calls[*].function.arguments", arguments, 2}, {"choices[*].delta.tool_calls[*].custom.input", thought, 2},
	{"choices[*].delta.function_call.arguments", arguments, 1}, {"choices[*].delta.audio.transcript", thought, 1},
}, sourcePaths(chat, "choices[*].delta.")...), listedPaths...))

// readChunk reads a chunk of a chat completion.
func (g *wireGuard) readChunk(ev *events.Event) (out []wirePart, err error) {
	if string(ev.Data) == "[DONE]" {
		return []wirePart{{ending: true}}, nil
	}
	var chunk struct {
		Choices []struct {
			Index  int `json:"index"`
			Reason any `json:"finish_reason"`
			Delta  struct {
				Calls []struct {
					Index *int `json:"index"`
				} `json:"tool_calls"`
				Details []struct {
					Index int `json:"index"`
				} `json:"reasoning_details"`
			} `json:"delta"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(ev.Data, &chunk); err != nil {
		return nil, err
	}
	places := chunkPaths.paths.Find(ev.Data)
	data := kept(ev.Data, places)
	for _, place := range places {
		p := chunkPaths.list[place.Pattern]
		if !strings.HasPrefix(p.path, "choices") || strings.Contains(p.path, "annotations") {
			out = append(out, wirePart{piece: piece{place, "", p.kind, true, nil}})
			continue
		}
		choice := &chunk.Choices[place.Indexes[0]]
		names := strings.Split(strings.TrimPrefix(strings.ReplaceAll(p.path, "[*]", ""), "choices.delta."), ".")
		key, whole := fmt.Sprintf("%d/%s", choice.Index, names[0]), false
		wrap := func(text jsontext.Value) jsontext.Value { return text }
		switch names[0] {
		case "tool_calls":
			index := choice.Delta.Calls[place.Indexes[1]].Index
			if whole = index == nil; !whole { // or the call is there as a whole
				key += fmt.Sprintf("/%d", *index)
				wrap = func(v jsontext.Value) jsontext.Value {
					return array([]jsontext.Value{object("index", dialect.Number(int64(*index)), names[1], object(names[2], v))})
				}
			}
		case "reasoning_details":
			index := choice.Delta.Details[place.Indexes[1]].Index
			key += fmt.Sprintf("/%d", index)
			typ := "reasoning.text"
			if names[1] == "summary" {
				typ = "reasoning.summary"
			}
			wrap = func(v jsontext.Value) jsontext.Value {
				return array([]jsontext.Value{object("type", typ, names[1], v, "index", dialect.Number(int64(index)))})
			}
		default:
			for i := len(names) - 1; i > 0; i-- {
				inner, name := wrap, names[i]
				wrap = func(v jsontext.Value) jsontext.Value { return object(name, inner(v)) }
			}
		}
		if p.kind == signature { // which comes last
			out = append(out, wirePart{ending: true, ends: key})
		}
		out = append(out, wirePart{piece: piece{place, key, p.kind, whole, func(text string) events.Event {
			delta := object(names[0], wrap(dialect.String(text)))
			return chunkOf(data, array([]jsontext.Value{object("index", dialect.Number(int64(choice.Index)), "delta", delta, "finish_reason", jsontext.Value("null"))}))
		}}})
	}
	for _, c := range chunk.Choices {
		if c.Reason != nil {
			out = append(out, wirePart{ending: true, ends: fmt.Sprintf("%d/", c.Index)})
		}
	}
	return out, nil
}

// chunkOf returns a chunk like another with these choices alone.
func chunkOf(like []byte, choices jsontext.Value) events.Event {
	b, err := dialect.ParseBody(like)
	if err != nil {
		return events.Event{Data: object("choices", choices)} // it was read before
	}
	return events.Event{Data: b.Patched(dialect.Patch{Name: "choices", Value: choices}, dialect.Patch{Name: "usage"})}
}

var blockPaths = textsOf(append(append([]answerPath{
	{"delta.text", spoken, 0}, {"delta.thinking", thought, 0}, {"delta.partial_json", arguments, 0}, {"delta.signature", signature, 0},
	{"content_block.text", spoken, 0}, {"content_block.thinking", thought, 0}, {"content_block.input.**", thought, 0},
}, sourcePaths(messages, "content_block.")...), membersAt("delta.citation.", 0, citationMembers...)...))

// readMessages reads an event of Messages.
func (g *wireGuard) readMessages(ev *events.Event) (out []wirePart, err error) {
	var head struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
	}
	if err := json.Unmarshal(ev.Data, &head); err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%d/", head.Index)
	switch head.Type {
	case "content_block_start", "content_block_delta":
		for _, place := range blockPaths.paths.Find(ev.Data) {
			p := blockPaths.list[place.Pattern]
			if p.kind == signature {
				out = append(out, wirePart{ending: true, ends: key})
			}
			if strings.HasPrefix(p.path, "delta.citation.") {
				out = append(out, wirePart{piece: piece{place, "", p.kind, true, nil}})
				continue
			}
			if head.Type == "content_block_start" {
				if text := place.Text(ev.Data); text == "" {
					continue // it begins
				}
				out = append(out, wirePart{piece: piece{place, key, p.kind, true, nil}})
				continue
			}
			out = append(out, wirePart{piece: piece{place, key, p.kind, false, again(ev, place)}})
		}
	case "content_block_stop":
		out = append(out, wirePart{ending: true, ends: key})
	case "message_delta", "message_stop":
		out = append(out, wirePart{ending: true})
	}
	return out, nil
}

var contentPaths = textsOf(answerPaths(generate, ""))

// readContents reads a part of an answer of Gemini. A text ends where another one, or a call, begins.
func (g *wireGuard) readContents(ev *events.Event) (out []wirePart, err error) {
	var answer geminiAnswer
	if err := json.Unmarshal(ev.Data, &answer); err != nil {
		return nil, err
	}
	places := contentPaths.paths.Find(ev.Data)
	data := kept(ev.Data, places)
	for i := range answer.Candidates {
		c := &answer.Candidates[i]
		for j := range c.Content.Parts {
			part := &c.Content.Parts[j]
			key := g.open[c.Index]
			kind := fmt.Sprintf("%d/%v/", c.Index, part.Thought)
			if part.Text == nil || !strings.HasPrefix(key, kind) {
				if key != "" {
					out = append(out, wirePart{ending: true, ends: key})
				}
				g.turn++
				key = fmt.Sprintf("%s%d", kind, g.turn)
				if g.open[c.Index] = key; part.Text == nil {
					delete(g.open, c.Index)
				}
			}
			var signed *wirePart
			for _, place := range places {
				p := contentPaths.list[place.Pattern]
				if p.depth < 2 || place.Indexes[0] != i || place.Indexes[1] != j {
					continue
				}
				carry := func(text string) events.Event { return contentOf(data, c.Index, part.Thought, text) }
				one := wirePart{piece: piece{place, key, p.kind, part.Text == nil, carry}}
				if p.kind == signature {
					signed = &one
					continue
				}
				out = append(out, one)
			}
			if signed != nil {
				if part.Text != nil {
					out = append(out, wirePart{ending: true, ends: key})
					delete(g.open, c.Index)
				}
				out = append(out, *signed)
			}
		}
		for _, place := range places {
			if p := contentPaths.list[place.Pattern]; p.depth == 1 && place.Indexes[0] == i { // of a source
				out = append(out, wirePart{piece: piece{place, "", p.kind, true, nil}})
			}
		}
		if c.Reason != "" {
			out = append(out, wirePart{ending: true, ends: fmt.Sprintf("%d/", c.Index)})
			delete(g.open, c.Index)
		}
	}
	return out, nil
}

// contentOf returns a part of an answer like another with this text alone.
func contentOf(like []byte, candidate int, thought bool, text string) events.Event {
	part := object("text", text)
	if thought {
		part = object("text", text, "thought", jsontext.Value("true"))
	}
	candidates := array([]jsontext.Value{object("content", object("parts", array([]jsontext.Value{part}), "role", "model"), "index", dialect.Number(int64(candidate)))})
	b, err := dialect.ParseBody(like)
	if err != nil {
		return events.Event{Data: object("candidates", candidates)} // it was read before
	}
	return events.Event{Data: b.Patched(dialect.Patch{Name: "candidates", Value: candidates}, dialect.Patch{Name: "usageMetadata"})}
}

var (
	responseDeltas = textsOf([]answerPath{{"delta", spoken, 0}})
	responseWholes = textsOf(append(append([]answerPath{
		{"text", spoken, 0}, {"refusal", thought, 0}, {"arguments", arguments, 0}, {"input", thought, 0}, {"code", thought, 0}, {"transcript", thought, 0},
		{"part.text", spoken, 0}, {"part.refusal", thought, 0}, {"part.transcript", thought, 0},
	}, append(membersAt("part.annotations[*].", 0, annotationMembers...), membersAt("annotation.", 0, annotationMembers...)...)...), append(itemPaths("item."), answerPaths(respond, "response.")...)...))
)

// readResponse reads an event of Responses. What came in pieces comes once more as a whole.
func (g *wireGuard) readResponse(ev *events.Event) (out []wirePart, err error) {
	var head struct {
		Type    string `json:"type"`
		Item    string `json:"item_id"`
		Output  int    `json:"output_index"`
		Content int    `json:"content_index"`
		Summary int    `json:"summary_index"`
	}
	if err := json.Unmarshal(ev.Data, &head); err != nil {
		return nil, err
	}
	what, delta := strings.CutSuffix(head.Type, ".delta")
	if !delta {
		what, _ = strings.CutSuffix(head.Type, ".done")
	}
	item := fmt.Sprintf("%d/", head.Output)
	key := fmt.Sprintf("%s%s/%d/%d/", item, what, head.Content, head.Summary)
	if delta {
		kind := spoken
		switch what {
		case "response.function_call_arguments", "response.mcp_call_arguments":
			kind = arguments
		case "response.audio": // base64
			return nil, nil
		}
		for _, place := range responseDeltas.paths.Find(ev.Data) {
			out = append(out, wirePart{piece: piece{place, key, kind, false, again(ev, place)}})
		}
		return out, nil
	}
	switch {
	case head.Type == "response.output_item.done":
		out = append(out, wirePart{ending: true, ends: item})
	case head.Type == "response.completed", head.Type == "response.incomplete", head.Type == "response.failed":
		out = append(out, wirePart{ending: true})
	case strings.HasSuffix(head.Type, ".done"):
		out = append(out, wirePart{ending: true, ends: key})
	}
	for _, place := range responseWholes.paths.Find(ev.Data) {
		out = append(out, wirePart{piece: piece{place, "", responseWholes.list[place.Pattern].kind, true, nil}})
	}
	return out, nil
}
