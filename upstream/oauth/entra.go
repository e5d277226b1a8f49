package oauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/mcpgw/mcpgw/internal/secret"
)

// Where Microsoft's identity services are.
const (
	entraAuthority  = "https://login.microsoftonline.com/"
	azureMetadata   = "http://169.254.169.254"
	metadataVersion = "2018-02-01"
	serviceVersion  = "2019-08-01"
	// assertion is the type of a client's assertion (RFC 7523 section 2.2).
	assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// Entra returns the source of tokens of Microsoft Entra ID for a resource, such as
// https://cognitiveservices.azure.com. Who asks for them is told by the variables that
// Azure's own clients read, the first that there is of: AZURE_CLIENT_SECRET, with
// AZURE_TENANT_ID and AZURE_CLIENT_ID; AZURE_FEDERATED_TOKEN_FILE, with the same two, which
// is workload identity; IDENTITY_ENDPOINT with IDENTITY_HEADER, the managed identity of
// App Service and Container Apps; else the managed identity of the virtual machine. With the
// latter two AZURE_CLIENT_ID chooses one that the user assigned. getenv is [os.Getenv]; it
// is read for each token, as is the file.
func Entra(resource string, getenv func(string) string) Source {
	return func(ctx context.Context) (Token, error) {
		e := entra{resource: resource, tenant: getenv("AZURE_TENANT_ID"), id: getenv("AZURE_CLIENT_ID")}
		e.authority = cmp.Or(getenv("AZURE_AUTHORITY_HOST"), entraAuthority)
		key, file := getenv("AZURE_CLIENT_SECRET"), getenv("AZURE_FEDERATED_TOKEN_FILE")
		switch {
		case key != "" || file != "":
			if e.tenant == "" || e.id == "" {
				return Token{}, errors.New("AZURE_TENANT_ID and AZURE_CLIENT_ID are not both set")
			}
			return e.client(ctx, key, file)
		case getenv("IDENTITY_ENDPOINT") != "" && getenv("IDENTITY_HEADER") != "":
			return e.managed(ctx, getenv("IDENTITY_ENDPOINT"), serviceVersion, http.Header{"X-Identity-Header": {getenv("IDENTITY_HEADER")}})
		default:
			host := cmp.Or(getenv("AZURE_POD_IDENTITY_AUTHORITY_HOST"), azureMetadata)
			return e.managed(ctx, strings.TrimSuffix(host, "/")+"/metadata/identity/oauth2/token", metadataVersion, http.Header{"Metadata": {"true"}})
		}
	}
}

// An entra is one fetch of a token.
type entra struct{ resource, authority, tenant, id string }

// client fetches a token by the client credentials grant (RFC 6749 section 4.4), with a
// secret, or with the token in a file as assertion.
func (e *entra) client(ctx context.Context, key, file string) (Token, error) {
	cfg := clientcredentials.Config{
		ClientID: e.id, ClientSecret: key, Scopes: []string{e.resource + "/.default"}, AuthStyle: oauth2.AuthStyleInParams,
		TokenURL: strings.TrimSuffix(e.authority, "/") + "/" + url.PathEscape(e.tenant) + "/oauth2/v2.0/token",
	}
	if key == "" {
		token, err := readFile(file)
		if err != nil {
			return Token{}, fmt.Errorf("AZURE_FEDERATED_TOKEN_FILE: %w", err)
		}
		cfg.EndpointParams = url.Values{"client_assertion": {token}, "client_assertion_type": {assertion}}
	}
	return take(cfg.TokenSource(withClient(ctx)))
}

// managed fetches the token of a managed identity.
func (e *entra) managed(ctx context.Context, endpoint, version string, header http.Header) (Token, error) {
	query := url.Values{"api-version": {version}, "resource": {e.resource}}
	if e.id != "" {
		query.Set("client_id", e.id)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return Token{}, err
	}
	r.Header = header
	resp, err := client().Do(r)
	if err != nil {
		return Token{}, err
	}
	defer func() { _ = resp.Body.Close() }() // all that can be learned was learned by reading
	if resp.StatusCode != http.StatusOK {
		return Token{}, fmt.Errorf("the endpoint of the managed identity answered %d", resp.StatusCode)
	}
	var answer struct {
		AccessToken string      `json:"access_token"`
		ExpiresOn   json.Number `json:"expires_on"` // seconds since 1970, as a string
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		return Token{}, errors.New("the endpoint of the managed identity answered no token")
	}
	t := Token{Value: secret.New(answer.AccessToken)}
	if at, err := strconv.ParseInt(answer.ExpiresOn.String(), 10, 64); err == nil {
		t.Expiry = time.Unix(at, 0)
	}
	return t, nil
}
