package fault

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// IsGRPC reports whether a request is one of gRPC, which reads how it ended in trailers (gRPC over HTTP2, Requests).
func IsGRPC(r *http.Request) bool {
	if r.ProtoMajor != 2 || r.Method != http.MethodPost || len(r.Header["Content-Type"]) != 1 {
		return false
	}
	rest, ok := strings.CutPrefix(r.Header["Content-Type"][0], "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// WriteGRPC renders the fault as gRPC has it: a head alone, with the status of the call (gRPC over HTTP2, Trailers-Only).
func (f *Fault) WriteGRPC(w http.ResponseWriter) {
	header := w.Header()
	header["Content-Type"] = []string{"application/grpc"}
	delete(header, "Content-Length")
	f.SetGRPC(header, "")
	w.WriteHeader(http.StatusOK)
}

// SetGRPC sets the status of a call in a header, or in what are trailers by a prefix of their names.
func (f *Fault) SetGRPC(h http.Header, prefix string) {
	h[prefix+"Grpc-Status"] = []string{strconv.Itoa(table[f.Code].grpc)}
	var message strings.Builder
	for i := 0; i < len(f.Message); i++ {
		if c := f.Message[i]; c < ' ' || c > '~' || c == '%' {
			_, _ = fmt.Fprintf(&message, "%%%02X", c)
		} else {
			message.WriteByte(c)
		}
	}
	h[prefix+"Grpc-Message"] = []string{message.String()}
}
