package sigv4

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/mcpgw/mcpgw/internal/secret"
)

// A Static is an access key that does not change. Its secrets are revealed when a request
// is signed.
type Static struct {
	AccessKey    secret.Value
	SecretKey    secret.Value
	SessionToken secret.Value // of temporary credentials
}

// Retrieve implements aws.CredentialsProvider.
func (s Static) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{
		AccessKeyID: s.AccessKey.Reveal(), SecretAccessKey: s.SecretKey.Reveal(), SessionToken: s.SessionToken.Reveal(), Source: "Secret",
	}, nil
}

const (
	// retrieveTime bounds how long a request waits for credentials that are not at hand, and
	// how long one who is asked for them may take.
	retrieveTime = 10 * time.Second
	// expiryWindow is how long before their end credentials are renewed.
	expiryWindow = 5 * time.Minute
	// renewTime is the least time between two renewals of credentials that AWS refuses.
	renewTime = 30 * time.Second
)

// An Ambient is the credentials of what the process runs on, by the chain of the AWS SDK:
// the environment, web identity (IRSA), the shared files, pod identity or a container's
// credentials, the instance's metadata. It keeps them and renews them before they expire;
// what failed is looked for anew the next time. It is safe for concurrent use, and reads
// nothing before it is first asked.
type Ambient struct {
	region string

	mu      sync.Mutex
	found   aws.CredentialsProvider // nil when it is to be looked for
	last    aws.Credentials         // that were given out
	renewed time.Time
}

// NewAmbient returns the ambient credentials. region is where they are asked for when the
// environment names no region.
func NewAmbient(region string) *Ambient { return &Ambient{region: region} }

var errNowhere = errors.New("the AWS SDK found no credentials")

// Retrieve implements aws.CredentialsProvider.
func (a *Ambient) Retrieve(ctx context.Context) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, retrieveTime)
	defer cancel()
	from, err := a.provider(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("looking for AWS credentials: %w", err)
	}
	creds, err := from.Retrieve(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if a.found == from {
			a.found = nil
		}
		return aws.Credentials{}, fmt.Errorf("asking for AWS credentials: %w", err)
	}
	a.last = creds
	return creds, nil
}

// provider returns who has the credentials, and keeps them.
func (a *Ambient) provider(ctx context.Context) (aws.CredentialsProvider, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.found != nil {
		return a.found, nil
	}
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithDefaultRegion(a.region),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(retrieveTime/2)),
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = expiryWindow }),
	)
	if err != nil {
		return nil, err
	}
	if cfg.Credentials == nil {
		return nil, errNowhere
	}
	a.found = cfg.Credentials
	return a.found, nil
}

// renew forgets credentials that AWS refused, and reports whether it makes sense to ask
// for others.
func (a *Ambient) renew(refused aws.Credentials) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !same(a.last, refused) {
		return true // somebody else has renewed them
	}
	if time.Since(a.renewed) < renewTime {
		return false
	}
	a.renewed, a.found, a.last = time.Now(), nil, aws.Credentials{}
	return true
}

// same reports whether both are the same credentials.
func same(a, b aws.Credentials) bool {
	return a.AccessKeyID == b.AccessKeyID && a.SecretAccessKey == b.SecretAccessKey && a.SessionToken == b.SessionToken
}
