package federation

import (
	"context"
	"errors"
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
	start := 0
	if after.target != "" {
		start = m.after(q.b, &after)
	}
	f := &features[k]
	size := 0
	shown := make([]int, 0, min(q.b.cfg.PageSize, len(m.items)-start))
	more := false
	for i := start; i < len(m.items); i++ {
		p := &m.items[i]
		switch err := v.authorize(ctx, k, f.method, p.target, p.own, nil); {
		case errors.Is(err, errUnknown):
			continue
		case err != nil:
			return err
		}
		if len(shown) == q.b.cfg.PageSize {
			more = true
			break
		}
		shown = append(shown, i)
		size += len(p.raw) + 1
	}

	out := make([]byte, 0, size+512)
	out = append(out, '{')
	if q.era == protocol.Modern {
		// What a caller sees is what its rules let through.
		out = append(out, `"resultType":"complete","cacheScope":"private","ttlMs":`...)
		out = append(strconv.AppendInt(out, v.keep(k, m).Milliseconds(), 10), ',')
	}
	out = append(out, '"')
	out = append(out, f.member...)
	out = append(out, `":[`...)
	for n, i := range shown {
		if n > 0 {
			out = append(out, ',')
		}
		out = append(out, m.items[i].raw...)
	}
	out = append(out, ']')
	if more {
		last := &m.items[shown[len(shown)-1]]
		c := cursor{
			kind: k, made: q.b.hub.now().Unix(), ordinal: uint32(last.target), index: uint32(last.index),
			target: q.b.cfg.Targets[last.target].Name, item: itemHash(last.own),
		}
		out = append(out, `,"nextCursor":`...)
		out = append(out, protocol.Quote(c.seal(q.b.hub.opts.Sealer, binding))...)
	}
	if short.any() {
		out = append(short.append(append(out, `,"_meta":{`...)), '}')
	}
	return q.result(append(out, '}'))
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
