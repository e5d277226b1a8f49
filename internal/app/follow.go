package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/delivery"
)

// FollowOptions say which controller a data plane takes its resources from.
type FollowOptions struct {
	// Address is host:port of the controller.
	Address string
	// CAFile holds the authorities that vouch for it, TokenFile the token of this data plane's ServiceAccount.
	CAFile, TokenFile string
	// CacheFile keeps what came last; "" keeps it in memory alone.
	CacheFile string
}

// check returns what is wrong with the options.
func (o *FollowOptions) check(all *ServeOptions) error {
	if host, _, err := net.SplitHostPort(o.Address); err != nil || host == "" {
		return fmt.Errorf("--controller %q is not host:port, as in mcpgw-controller.mcpgw-system.svc:9978", o.Address)
	}
	switch {
	case all.MCPConfig != "":
		return errors.New("give either --mcp-config or --controller, not both")
	case all.SessionKeysFile != "" || all.SessionKeys != "":
		return errors.New("session keys come from the controller: leave --session-keys-file and MCPGW_SESSION_KEYS out")
	case o.TokenFile == "":
		return errors.New("--controller-token-file is needed: it holds a token of the ServiceAccount that has the Gateway's name, for the audience mcpgw-controller")
	}
	return nil
}

// followSource returns the source of a controller, with that of the files that are to be served beside.
func followSource(opts ServeOptions, in *instance) (config.Source, error) {
	node, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("naming this replica: %w", err)
	}
	known := map[string]bool{}
	source, err := delivery.NewSource(delivery.SourceOptions{
		Address: opts.Follow.Address, CAFile: opts.Follow.CAFile, TokenFile: opts.Follow.TokenFile, CacheFile: opts.Follow.CacheFile,
		Node: node, Tells: onlyHere, Logger: opts.Logger, SetSessionKeys: in.runtime.SetSessionKeys,
		OnReport: func(report *config.Report) { in.tell(news(ofThisProcess(report), known), nil, true) },
	})
	if err != nil || len(opts.Paths) == 0 {
		return source, err
	}
	return &besideSource{controller: source, paths: opts.Paths, logger: opts.Logger}, nil
}

// ofThisProcess returns the problems that only a data plane can have: the controller tells the rest, in the status of
// the objects.
func ofThisProcess(report *config.Report) *config.Report {
	out := &config.Report{}
	for _, p := range report.Problems {
		if onlyHere(p) {
			out.Add(p)
		}
	}
	return out
}

// onlyHere reports whether only this process can find a problem.
func onlyHere(p config.Problem) bool { return p.Reason == "PortUnavailable" }

// temporaryKey returns a session key for the time before the controller's come. Nothing is served then, so nothing is
// sealed with it.
func temporaryKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return key
}
