package sigv4_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/internal/secret"
	"github.com/mcpgw/mcpgw/internal/testaws"
	"github.com/mcpgw/mcpgw/upstream"
	"github.com/mcpgw/mcpgw/upstream/sigv4"
)

var key = aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI", SessionToken: "IQoJb3JpZ2lu//=="}

func static(c aws.Credentials) sigv4.Static {
	return sigv4.Static{AccessKey: secret.New(c.AccessKeyID), SecretKey: secret.New(c.SecretAccessKey), SessionToken: secret.New(c.SessionToken)}
}

// A service checks the signatures of requests, and counts those that were good.
func service(t *testing.T, name, region string, creds func() aws.Credentials) (server *httptest.Server, good *atomic.Int64) {
	good = new(atomic.Int64)
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if err := testaws.Verify(r, body, name, region, creds()); err != nil {
			w.Header().Set("X-Amzn-Errortype", "ExpiredTokenException")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, err.Error())
			return
		}
		good.Add(1)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	return server, good
}

// pool is what sends in the gateway, too.
func pool(t *testing.T, s *httptest.Server) *upstream.Pool {
	p := upstream.NewPool(upstream.Options{}, s.Listener.Addr().String())
	t.Cleanup(p.Close)
	return p
}

func post(t *testing.T, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func do(t *testing.T, rt http.RoundTripper, r *http.Request) (int, string) {
	t.Helper()
	resp, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// What is signed is what arrives, by way of the gateway's own pool: any path, query, header and
// body, for any service and region. The request of the caller stays as it was.
func TestSignature(t *testing.T) {
	for _, creds := range []aws.Credentials{key, {AccessKeyID: "A", SecretAccessKey: "s"}} {
		server, good := service(t, "lambda", "eu-west-1", func() aws.Credentials { return creds })
		transport := sigv4.New(pool(t, server), sigv4.Options{Service: "lambda", Region: "eu-west-1", Credentials: static(creds)})
		paths := []string{
			"/", "/model/amazon.titan-text-lite-v1/converse", "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ax%2Fa%20b/converse", "/a%2Fb/c?x=2&a=%20b&x=1&y",
			"/2015-03-31/functions/name:%24LATEST/invocations", "/%C3%A4/~a",
		}
		for _, path := range paths {
			for _, body := range []string{"", "{}", strings.Repeat("ä", 1<<20)} {
				r := post(t, "http://bedrock.test"+path, body)
				r.Header = http.Header{
					"User-Agent": {"x/1"}, "Accept": {"application/json"}, "X-A": {"1", " 2  3 "}, "Traceparent": {"00-1"}, "Idempotency-Key": {"k"}, "Authorization": {"Bearer client"},
				}
				before := r.Header.Clone()
				if status, got := do(t, transport, r); status != 200 || got != body {
					t.Errorf("%s: %d %.300s", path, status, got)
				}
				if fmt.Sprint(before) != fmt.Sprint(r.Header) {
					t.Errorf("the caller's header is %v", r.Header)
				}
			}
		}
		if got, want := good.Load(), int64(3*len(paths)); got != want {
			t.Errorf("%d requests were good, not %d", got, want)
		}
	}
}

// A request that is changed on its way is refused: the check is one.
func TestVerify(t *testing.T) {
	server, good := service(t, "bedrock", "eu-west-1", func() aws.Credentials { return key })
	for name, change := range map[string]func(*sigv4.Options, *http.Request){
		"service": func(o *sigv4.Options, _ *http.Request) { o.Service = "lambda" },
		"region":  func(o *sigv4.Options, _ *http.Request) { o.Region = "us-east-1" },
		"secret": func(o *sigv4.Options, _ *http.Request) {
			o.Credentials = static(aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: "x", SessionToken: key.SessionToken})
		},
		"token": func(o *sigv4.Options, _ *http.Request) {
			o.Credentials = static(aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey})
		},
		"body": func(_ *sigv4.Options, r *http.Request) { r.Body = io.NopCloser(strings.NewReader("b")) }, // and GetBody says a
	} {
		opts := sigv4.Options{Service: "bedrock", Region: "eu-west-1", Credentials: static(key)}
		r := post(t, "http://bedrock.test/", "a")
		change(&opts, r)
		if status, _ := do(t, sigv4.New(pool(t, server), opts), r); status != 403 {
			t.Errorf("another %s: %d", name, status)
		}
	}
	if good.Load() != 0 {
		t.Error("some were good")
	}
}

// The official client's own requests pass the same check, and have the same path: the
// stand-in is as strict as it may be and no stricter.
func TestOfficialClient(t *testing.T) {
	stand := &testaws.Bedrock{Region: "eu-west-1", Credentials: key}
	server := httptest.NewServer(stand)
	defer server.Close()
	client := bedrockruntime.New(bedrockruntime.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.StaticCredentialsProvider{Value: key},
	})
	model := "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a b"
	hello := []types.Message{{Role: types.ConversationRoleUser, Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: "hello"}}}}
	got, err := client.Converse(t.Context(), &bedrockruntime.ConverseInput{ModelId: &model, Messages: hello})
	if err != nil {
		t.Fatal(err)
	}
	if text := got.Output.(*types.ConverseOutputMemberMessage).Value.Content[0].(*types.ContentBlockMemberText).Value; text != "hello" {
		t.Errorf("it says %q", text)
	}
	asked, _ := stand.Last()
	if want := "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fa%20b/converse"; asked.Path != want || asked.Model != model {
		t.Errorf("it is asked at %s, not %s", asked.Path, want)
	}
	stream, err := client.ConverseStream(t.Context(), &bedrockruntime.ConverseStreamInput{ModelId: &model, Messages: hello})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.GetStream().Close() }()
	text, events := "", 0
	for e := range stream.GetStream().Events() {
		events++
		if d, ok := e.(*types.ConverseStreamOutputMemberContentBlockDelta); ok {
			text += d.Value.Delta.(*types.ContentBlockDeltaMemberText).Value
		}
	}
	if err := stream.GetStream().Err(); err != nil || text != "hello" || events != 5 {
		t.Errorf("the stream: %q, %d events, %v", text, events, err)
	}
}

// A body that can be read only once can't be signed: nothing is sent.
func TestNoGetBody(t *testing.T) {
	server, good := service(t, "bedrock", "eu-west-1", func() aws.Credentials { return key })
	r := post(t, "http://bedrock.test/", "a")
	r.GetBody = nil
	_, err := sigv4.New(pool(t, server), sigv4.Options{Service: "bedrock", Region: "eu-west-1", Credentials: static(key)}).RoundTrip(r)
	if fault.Of(err).Code != fault.Internal || good.Load() != 0 {
		t.Errorf("%v", err)
	}
}

// environment makes that of the process one without anything of AWS's, but for the pairs of name
// and value.
func environment(t *testing.T, pairs ...string) {
	for _, line := range os.Environ() {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "") // which is put back
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
	}
}

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func retrieve(t *testing.T, a *sigv4.Ambient) aws.Credentials {
	t.Helper()
	got, err := a.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Credentials come from the environment and the shared files.
func TestAmbient(t *testing.T) {
	environment(t, "AWS_ACCESS_KEY_ID", "A", "AWS_SECRET_ACCESS_KEY", "s", "AWS_SESSION_TOKEN", "t")
	if got := retrieve(t, sigv4.NewAmbient("eu-west-1")); got.AccessKeyID != "A" || got.SecretAccessKey != "s" || got.SessionToken != "t" {
		t.Errorf("of the environment: %+v", got)
	}
	environment(t, "AWS_SHARED_CREDENTIALS_FILE", write(t, "[one]\naws_access_key_id=B\naws_secret_access_key=s\n"), "AWS_PROFILE", "one")
	if got := retrieve(t, sigv4.NewAmbient("eu-west-1")); got.AccessKeyID != "B" {
		t.Errorf("of the profile: %+v", got)
	}
}

// An sts is a stand-in for the Security Token Service: it knows one token, and makes keys
// with numbers.
type sts struct {
	lifetime time.Duration
	calls    atomic.Int64
	broken   atomic.Bool
}

func (s *sts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.Form.Get("Action") != "AssumeRoleWithWebIdentity" || r.Form.Get("WebIdentityToken") != "web-token" || s.broken.Load() {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>no</Message></Error></ErrorResponse>`)
		return
	}
	n := s.calls.Add(1)
	_, _ = fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA%d</AccessKeyId><SecretAccessKey>secret%d</SecretAccessKey><SessionToken>token%d</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
		n, n, n, time.Now().Add(s.lifetime).UTC().Format(time.RFC3339))
}

// webIdentity makes the environment that of a pod with IRSA.
func webIdentity(t *testing.T, s *sts) {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	environment(t, "AWS_ENDPOINT_URL_STS", server.URL, "AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE", write(t, "web-token"), "AWS_REGION", "eu-west-1")
}

func credentialsOf(n int64) aws.Credentials {
	return aws.Credentials{AccessKeyID: fmt.Sprintf("ASIA%d", n), SecretAccessKey: fmt.Sprintf("secret%d", n), SessionToken: fmt.Sprintf("token%d", n)}
}

// The credentials of web identity are kept as long as they are good, and renewed before they
// expire.
func TestWebIdentity(t *testing.T) {
	s := &sts{lifetime: time.Hour}
	webIdentity(t, s)
	server, good := service(t, "bedrock", "eu-west-1", func() aws.Credentials { return credentialsOf(s.calls.Load()) })
	transport := sigv4.New(pool(t, server), sigv4.Options{Service: "bedrock", Region: "eu-west-1", Credentials: sigv4.NewAmbient("us-east-1")})
	for range 3 {
		if status, got := do(t, transport, post(t, "http://bedrock.test/", "a")); status != 200 {
			t.Fatalf("%d %s", status, got)
		}
	}
	if s.calls.Load() != 1 || good.Load() != 3 {
		t.Errorf("%d calls for %d requests", s.calls.Load(), good.Load())
	}
	s.lifetime = 4 * time.Minute // within which they are as good as expired
	a := sigv4.NewAmbient("us-east-1")
	first, second := retrieve(t, a), retrieve(t, a)
	if first.AccessKeyID == second.AccessKeyID {
		t.Errorf("credentials that are about to expire are not renewed: %s", first.AccessKeyID)
	}
}

// Credentials that AWS takes for expired are renewed, once, and the request is sent again; while
// they are refused all the same, nobody is asked for more.
func TestRenew(t *testing.T) {
	s := &sts{lifetime: time.Hour}
	webIdentity(t, s)
	valid := int64(2)
	server, good := service(t, "bedrock", "eu-west-1", func() aws.Credentials { return credentialsOf(valid) })
	transport := sigv4.New(pool(t, server), sigv4.Options{Service: "bedrock", Region: "eu-west-1", Credentials: sigv4.NewAmbient("us-east-1")})
	if status, got := do(t, transport, post(t, "http://bedrock.test/", "a body")); status != 200 || got != "a body" {
		t.Fatalf("%d %s", status, got)
	}
	valid = 9
	for range 3 {
		if status, _ := do(t, transport, post(t, "http://bedrock.test/", "a")); status != 403 {
			t.Errorf("status %d", status)
		}
	}
	if s.calls.Load() != 2 || good.Load() != 1 {
		t.Errorf("%d calls for %d good requests", s.calls.Load(), good.Load())
	}
}

// Without credentials nothing is sent, and the error says why and where they were looked for;
// once there are some, they are found.
func TestNoCredentials(t *testing.T) {
	s := &sts{lifetime: time.Hour}
	s.broken.Store(true)
	webIdentity(t, s)
	server, good := service(t, "bedrock", "eu-west-1", func() aws.Credentials { return credentialsOf(1) })
	transport := sigv4.New(pool(t, server), sigv4.Options{Service: "bedrock", Region: "eu-west-1", Credentials: sigv4.NewAmbient("us-east-1")})
	_, err := transport.RoundTrip(post(t, "http://bedrock.test/", "a"))
	if fault.Of(err).Code != fault.UpstreamUnreachable || !strings.Contains(err.Error(), "InvalidIdentityToken") {
		t.Errorf("%v", err)
	}
	s.broken.Store(false)
	if status, got := do(t, transport, post(t, "http://bedrock.test/", "a")); status != 200 || good.Load() != 1 {
		t.Errorf("%d %s", status, got)
	}
	environment(t)
	_, err = sigv4.New(pool(t, server), sigv4.Options{Service: "bedrock", Region: "eu-west-1", Credentials: sigv4.NewAmbient("us-east-1")}).RoundTrip(post(t, "http://bedrock.test/", "a"))
	if fault.Of(err).Code != fault.UpstreamUnreachable || good.Load() != 1 {
		t.Errorf("without anything: %v", err)
	}
}

// The credentials of EKS Pod Identity, and of containers, come from their endpoint.
func TestPodIdentity(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "pod-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"ASIAPOD","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer server.Close()
	environment(t, "AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", write(t, "pod-token"))
	if got := retrieve(t, sigv4.NewAmbient("eu-west-1")); got.AccessKeyID != "ASIAPOD" || got.SessionToken != "t" {
		t.Errorf("%+v", got)
	}
}

// A client that goes away is not kept by somebody who has the credentials and does not
// answer.
func TestGone(t *testing.T) {
	asked, done := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-done
	}))
	defer server.Close()
	defer close(done)
	environment(t, "AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	go func() {
		<-asked
		cancel(gone)
	}()
	r := post(t, "http://bedrock.test/", "a").WithContext(ctx)
	_, err := sigv4.New(http.DefaultTransport, sigv4.Options{Service: "bedrock", Region: "eu-west-1", Credentials: sigv4.NewAmbient("us-east-1")}).RoundTrip(r)
	if !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

// Nothing that prints prints a secret.
func TestRedacted(t *testing.T) {
	var out bytes.Buffer
	s := static(key)
	_, _ = fmt.Fprintf(&out, "%v %+v %#v", s, s, sigv4.Options{Credentials: s})
	if strings.Contains(out.String(), key.SecretAccessKey) || strings.Contains(out.String(), key.SessionToken) {
		t.Error(out.String())
	}
}
