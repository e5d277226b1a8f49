package testaws

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A Lambda is a stand-in for the Invoke operation of AWS Lambda (API reference, Invoke). It takes
// events for one function that are signed for its region, are JSON, and are not over the quotas.
type Lambda struct {
	Region         string
	Credentials    aws.Credentials
	ARN, Qualifier string // of the function
	// Function is what runs. What it returns as failed, Handled or Unhandled, is the
	// X-Amz-Function-Error.
	Function func(event []byte) (result, failed string)
	// Refuse, when not 0, is the status of a refusal of all that is good.
	Refuse int

	mu     sync.Mutex
	events []string
}

// Events returns the events that the function got, in order.
func (l *Lambda) Events() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.events...)
}

// ServeHTTP implements http.Handler.
func (l *Lambda) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	refuse := func(status int, typ string, format string, args ...any) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Errortype", typ)
		w.WriteHeader(status)
		message, _ := json.Marshal(map[string]string{"Type": "User", "message": fmt.Sprintf(format, args...)})
		_, _ = w.Write(message)
	}
	if err := Verify(r, body, "lambda", l.Region, l.Credentials); err != nil {
		refuse(403, "InvalidSignatureException", "The request signature we calculated does not match: %v", err)
		return
	}
	kind := r.Header.Get("X-Amz-Invocation-Type")
	most := map[string]int{"RequestResponse": 6 << 20, "Event": 1 << 20}[kind]
	path := "/2015-03-31/functions/" + url.QueryEscape(l.ARN) + "/invocations"
	switch {
	case r.Method != http.MethodPost || !strings.HasSuffix(r.URL.EscapedPath(), path) || r.URL.Query().Get("Qualifier") != l.Qualifier || len(r.URL.Query()) != 1:
		refuse(404, "ResourceNotFoundException", "Function not found: %s", r.RequestURI)
		return
	case most == 0:
		refuse(400, "InvalidParameterValueException", "the invocation type is %q", kind)
		return
	case len(body) > most:
		refuse(413, "RequestTooLargeException", "%d byte payload is too large for the %s invocation type (limit %d bytes)", len(body), kind, most)
		return
	case len(body) > 0 && !json.Valid(body):
		refuse(400, "InvalidRequestContentException", "Could not parse request body into json: %.20s", body)
		return
	case l.Refuse != 0:
		refuse(l.Refuse, "ServiceException", "secret details")
		return
	}
	l.mu.Lock()
	l.events = append(l.events, string(body))
	l.mu.Unlock()
	w.Header().Set("X-Amzn-Requestid", "b0a9c3ad-8f3b-4f4c-9a2e-000000000002")
	if kind == "Event" {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	result, failed := l.Function(body)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amz-Executed-Version", l.Qualifier)
	if failed != "" {
		w.Header().Set("X-Amz-Function-Error", failed)
	}
	_, _ = io.WriteString(w, result)
}
