package federation

import (
	"context"
	"net/http"
	"strconv"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// list serves one page of a merged list: what the caller may see of it.
func (q *request) list(ctx context.Context, k kind) error {
	var after cursor
	binding := q.b.binding(q.client.Isolation)
	if raw := protocol.Get(q.msg.Params, "cursor"); raw != nil && string(raw) != "null" {
		sealed, ok := protocol.String(raw)
		if ok {
			after, ok = openCursor(q.b.hub.opts.Sealer, sealed, k, binding, q.b.hub.now())
		}
		if !ok {
			return protocol.Errorf(protocol.CodeInvalidParams, "Invalid params: params.cursor is not valid")
		}
	}
	v := q.catalogue()
	m, short, err := v.load(ctx, k)
	if err != nil {
		return q.targetFailed(err)
	}
	q.shareAgain(v)
	start := 0
	if after.target != "" {
		start = m.after(q.b, &after)
	}
	e, err := v.page(ctx, k, m, start, q.b.cfg.PageSize)
	if err != nil {
		return err
	}
	head := make([]byte, 0, 256)
	if q.era == protocol.Modern {
		// What a caller sees is what its rules let through.
		head = append(head, `"resultType":"complete","cacheScope":"private","ttlMs":`...)
		head = append(strconv.AppendInt(head, v.keep(k, m).Milliseconds(), 10), ',')
	}
	head = append(head, '"')
	head = append(head, features[k].member...)
	head = append(head, `":[`...)
	tail := make([]byte, 0, 256)
	tail = append(tail, ']')
	if e.more {
		last := &m.items[e.last]
		c := cursor{
			kind: k, made: q.b.hub.now().Unix(), ordinal: uint32(last.target), index: uint32(last.index),
			target: q.b.cfg.Targets[last.target].Name, item: itemHash(last.own),
		}
		tail = append(tail, `,"nextCursor":`...)
		tail = append(tail, protocol.Quote(c.seal(q.b.hub.opts.Sealer, binding))...)
	}
	if short.any() {
		tail = append(short.append(append(tail, `,"_meta":{`...)), '}')
	}
	return q.resultOf(head, e.raw, tail)
}

// resultOf answers with an object whose members are the parts, one after the other.
func (q *request) resultOf(head, body, tail []byte) error {
	frame := protocol.AppendResult(nil, q.msg.ID, []byte("{}"))
	at := len(frame) - len("}}")
	first := append(append(make([]byte, 0, at+len(head)), frame[:at]...), head...)
	return q.answer.respondIn(http.StatusOK, first, body, append(tail, "}}"...))
}

// after returns the index of the first item behind the cursor: behind the item
// that it names, or behind where that was when it is there no more.
func (m *merged) after(b *Backend, c *cursor) int {
	target := b.indexOf(c.target)
	if target < 0 {
		// The walk goes on with the target that came after it.
		for i := range m.items {
			if m.items[i].target >= int(c.ordinal) {
				return i
			}
		}
		return len(m.items)
	}
	behind := len(m.items)
	for i := range m.items {
		p := &m.items[i]
		if p.target < target {
			continue
		}
		if p.target > target {
			return min(behind, i)
		}
		if p.client != "" && itemHash(p.own) == c.item {
			return i + 1
		}
		if p.index >= int(c.index) && behind == len(m.items) {
			behind = i
		}
	}
	return behind
}
