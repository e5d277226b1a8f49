package sigv4

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/config"
)

// A Profile is one of the shared files of AWS.
type Profile struct {
	Name        string // "" means default
	Config      string // path of the file; ~/.aws/config by default
	Credentials string // ~/.aws/credentials by default
}

// Region returns the region that the profile names, "" without one: where there is no such file or profile, too, and where
// the file can't be read, which the search for credentials says.
func (p Profile) Region(ctx context.Context) string {
	if p.Name == "" {
		p.Name = config.DefaultSharedConfigProfile
	}
	found, err := config.LoadSharedConfigProfile(ctx, p.Name, func(o *config.LoadSharedConfigOptions) {
		o.ConfigFiles, o.CredentialsFiles = []string{p.Config}, []string{p.Credentials}
	})
	if err != nil {
		return ""
	}
	return found.Region
}
