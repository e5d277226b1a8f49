package federation

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/mcp/session"
)

// serveModern serves a message of a client that speaks the stateless revision
// (2026-07-28): everything about the client is in the message itself.
func (q *request) serveModern(ctx context.Context) error {
	q.era = protocol.Modern
	q.rec.MCP.Era = q.era.String()
	switch q.msg.Kind {
	case protocol.Response:
		return protocol.Errorf(protocol.CodeInvalidRequest, "a client of this revision sends no responses")
	case protocol.Notification:
		if err := protocol.CheckHeaders(q.header, q.msg); err != nil {
			return err
		}
		// There is none in this revision that could mean anything here.
		q.answer.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if err := protocol.CheckHeaders(q.header, q.msg); err != nil {
		return q.refuse(http.StatusBadRequest, err)
	}
	meta := protocol.Get(q.msg.Params, "_meta")
	version, _ := protocol.GetString(meta, protocol.MetaProtocolVersion)
	if protocol.EraOf(version) != protocol.Modern {
		return protocol.UnsupportedProtocolVersion(version, protocol.SupportedVersions())
	}
	q.rec.MCP.ProtocolVersion = version
	q.client.Version = version
	q.client.Capabilities = objectOrNil(protocol.Get(meta, protocol.MetaClientCapabilities))
	q.client.Info = objectOrNil(protocol.Get(meta, protocol.MetaClientInfo))
	q.answer.keep()
	return q.serve(ctx)
}

// freshness returns how long what the targets say about themselves may be kept: as
// long as all of them say. One that says nothing, or is not there, may say something
// else the next time.
func (b *Backend) freshness(found []*session.Discovery) time.Duration {
	if len(found) == 0 {
		return 0
	}
	least := time.Duration(math.MaxInt64)
	for _, d := range found {
		if d == nil {
			return 0
		}
		least = min(least, d.Fresh.Sub(b.hub.now()))
	}
	return max(least, 0)
}

// serverDiscover serves server/discover: what all targets can do together.
func (q *request) serverDiscover(ctx context.Context) error {
	found, _, short, err := q.discover(ctx, false)
	if err != nil {
		return err
	}
	result := []byte(`{"resultType":"complete","supportedVersions":[`)
	for i, v := range protocol.SupportedVersions() {
		if i > 0 {
			result = append(result, ',')
		}
		result = append(result, protocol.Quote(v)...)
	}
	result = append(result, `],"capabilities":`...)
	result = append(result, mergeCapabilities(found, protocol.Modern)...)
	if text := mergeInstructions(&q.b.cfg, found); text != "" {
		result = append(result, `,"instructions":`...)
		result = append(result, protocol.Quote(text)...)
	}
	result = append(result, `,"ttlMs":`...)
	result = strconv.AppendInt(result, q.b.freshness(found).Milliseconds(), 10)
	result = append(result, `,"cacheScope":"private","_meta":{`...)
	result = append(result, protocol.Quote(protocol.MetaServerInfo)...)
	result = append(result, ':')
	result = append(result, q.b.serverInfo()...)
	if short.any() {
		result = short.append(append(result, ','))
	}
	return q.result(append(result, '}', '}'))
}
