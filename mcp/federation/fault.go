package federation

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/mcp/protocol"
	"github.com/mcpgw/mcpgw/telemetry"
)

// A requestError is an error about a JSON-RPC request whose id is known.
type requestError struct {
	id  protocol.ID
	err error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// WriteError renders err as the MCP endpoint answers it: what concerns the
// transport or the session as plain HTTP, everything else as a JSON-RPC error
// with the id of the request where that is known. It also completes the Record.
func (b *Backend) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	rec := telemetry.FromContext(r.Context())
	var id protocol.ID
	var re *requestError
	if errors.As(err, &re) {
		id = re.id
	}
	var rpc *protocol.Error
	if errors.As(err, &rpc) && !isFault(err) {
		rec.ErrorType, rec.Err = strconv.Itoa(int(rpc.Code)), err
		writeRPC(w, statusOf(rpc, protocol.Modern), id, rpc)
		return
	}
	f := fault.Of(err)
	rec.ErrorType, rec.Err = f.Code.String(), err
	if f.Code == fault.ClientGone {
		return
	}
	h := w.Header()
	for name, values := range f.Header {
		h[name] = values
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(float64(f.RetryAfter)/float64(time.Second)))))
	}
	if f.Answer != nil {
		f.WriteText(w)
		return
	}
	if plain(f.Code) {
		http.Error(w, f.Message, f.Code.Status())
		return
	}
	writeRPC(w, f.Code.Status(), id, rpcError(f))
}

func isFault(err error) bool {
	var f *fault.Fault
	return errors.As(err, &f)
}

// plain reports whether a fault is about HTTP rather than about a message. MCP
// asks for nothing but the status of these.
func plain(c fault.Code) bool {
	switch c {
	case fault.NotFound, fault.MethodNotAllowed, fault.NotAcceptable, fault.UnsupportedMedia,
		fault.Denied, fault.Unauthenticated, fault.RateLimited, fault.HeadersTooLarge, fault.URITooLong, fault.RequestTimeout:
		return true
	default:
		return false
	}
}

// rpcError returns the JSON-RPC form of a fault.
func rpcError(f *fault.Fault) *protocol.Error {
	code := protocol.CodeInternal
	switch f.Code {
	case fault.BadRequest, fault.TooLarge:
		code = protocol.CodeInvalidRequest
	}
	return &protocol.Error{Code: code, Message: f.Message}
}

// statusOf returns the HTTP status of an answer that is the error.
func statusOf(e *protocol.Error, era protocol.Era) int {
	if e.BadRequest && era == protocol.Modern {
		return http.StatusBadRequest
	}
	switch e.Code {
	case protocol.CodeParse, protocol.CodeInvalidRequest:
		return http.StatusBadRequest
	case protocol.CodeHeaderMismatch, protocol.CodeMissingClientCapability, protocol.CodeUnsupportedProtocolVersion:
		if era == protocol.Modern {
			return http.StatusBadRequest
		}
	}
	return http.StatusOK
}

func writeRPC(w http.ResponseWriter, status int, id protocol.ID, e *protocol.Error) {
	body := protocol.AppendError(nil, id, e)
	h := w.Header()
	h["Content-Type"] = jsonType
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}
