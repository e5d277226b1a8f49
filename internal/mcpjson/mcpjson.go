// Package mcpjson reads the files in which MCP clients keep their servers:
// mcpServers of Claude and Cursor, servers and inputs of VS Code. [Import] turns
// one into the resources that put a gateway in front of the same servers, as YAML,
// so that everything after it is the one path that a written file takes too.
//
// Values of variables and inputs are put in while importing, so the YAML can hold
// secrets: it is kept in memory and never printed. The package does no I/O.
package mcpjson

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"sigs.k8s.io/yaml"
)

const (
	// maxFile bounds the file: ~/.claude.json holds more than servers.
	maxFile = 16 << 20
	// maxServers is as many targets as a Backend may have.
	maxServers = 32
)

// A Result is what a file was turned into.
type Result struct {
	// YAML holds the resources. It may contain secrets.
	YAML []byte
	// Targets are the names of the imported servers as targets, sorted.
	Targets []string
	// Skipped says of each server that was left out why, and what to do.
	Skipped []string
}

// A server is one entry. Clients know more fields; those that do not say how to
// reach the server are ignored.
type server struct {
	Type     string            `json:"type"`
	Command  string            `json:"command"`
	Args     []string          `json:"args"`
	Env      map[string]string `json:"env"`
	Cwd      string            `json:"cwd"`
	URL      string            `json:"url"`
	Headers  map[string]string `json:"headers"`
	Disabled bool              `json:"disabled"`
}

type file struct {
	MCPServers map[string]jsontext.Value `json:"mcpServers"` // Claude, Cursor
	Servers    map[string]jsontext.Value `json:"servers"`    // VS Code
}

// Import reads the servers in data, JSON that may have comments and trailing
// commas, and returns one MCP Backend named mcp with a target each. There is no
// Gateway: the one that is assumed for files serves it. lookup finds environment
// variables, as os.LookupEnv does. A server that can't be imported is skipped; the
// error is for a file that holds no servers at all.
func Import(data []byte, lookup func(string) (string, bool)) (*Result, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("the file has %d bytes, more than %d", len(data), maxFile)
	}
	var f file
	if err := json.Unmarshal(standardize(data), &f); err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	servers := f.MCPServers
	if len(servers) == 0 {
		servers = f.Servers
	}
	if len(servers) == 0 {
		return nil, errors.New("the file has no servers: expected a key mcpServers (Claude, Cursor) or servers (VS Code)")
	}
	im := &importer{expand: expander{lookup: lookup}, names: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		if err := im.add(name, servers[name]); err != nil {
			im.skipped = append(im.skipped, fmt.Sprintf("%s: %v", name, err))
		}
	}
	if len(im.targets) == 0 {
		return nil, fmt.Errorf("no server of the file can be imported:\n  %s", strings.Join(im.skipped, "\n  "))
	}
	return im.result()
}

type object = map[string]any

// An importer collects targets.
type importer struct {
	expand  expander
	names   map[string]bool
	targets []any
	skipped []string
}

// add makes a target of one entry.
func (im *importer) add(name string, raw jsontext.Value) error {
	var s server
	if err := json.Unmarshal(raw, &s); err != nil {
		if e := new(json.SemanticError); errors.As(err, &e) {
			return fmt.Errorf("its %s is of the wrong type", strings.TrimPrefix(string(e.JSONPointer), "/"))
		}
		return fmt.Errorf("reading the entry: %w", err)
	}
	if s.Disabled {
		return errors.New("it is disabled")
	}
	if len(im.targets) == maxServers {
		return fmt.Errorf("more than %d servers: split the file", maxServers)
	}
	if err := im.expand.server(&s); err != nil {
		return err
	}
	target := object{}
	switch {
	case s.Command != "" && s.URL != "":
		return errors.New("it has both command and url: remove one")
	case s.Command != "":
		target["stdio"] = stdio(&s)
	case s.URL != "":
		if err := remote(target, &s); err != nil {
			return err
		}
	default:
		return errors.New("it has neither command nor url")
	}
	target["name"] = im.name(name)
	im.targets = append(im.targets, target)
	return nil
}

// stdio returns the stdio block of a server that is started as a child.
func stdio(s *server) object {
	child := object{"command": s.Command}
	if len(s.Args) > 0 {
		child["args"] = s.Args
	}
	if len(s.Env) > 0 {
		child["env"] = s.Env
	}
	if s.Cwd != "" {
		child["cwd"] = s.Cwd
	}
	return child
}

// remote fills in a target that is reached over HTTP.
func remote(target object, s *server) error {
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" {
		return errors.New("its url cannot be parsed")
	}
	port := 80
	switch u.Scheme {
	case "http":
	case "https":
		port = 443
	default:
		return fmt.Errorf("its url begins with %s: a server is reached by http or https", u.Scheme)
	}
	if u.User != nil || u.RawQuery != "" {
		return errors.New("its url has a user or a query: neither can be kept in a target")
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil || port < 1 || port > 65535 {
			return errors.New("its url has a port that is none")
		}
	}
	static := object{"host": u.Hostname(), "port": port, "path": "/"}
	if u.Path != "" {
		static["path"] = u.EscapedPath()
	}
	if u.Scheme == "https" {
		static["tls"] = object{}
	}
	if strings.EqualFold(s.Type, "sse") {
		static["protocol"] = "SSE"
	}
	for key, value := range s.Headers {
		token, isBearer := strings.CutPrefix(value, "Bearer ")
		if !strings.EqualFold(key, "Authorization") || !isBearer {
			return fmt.Errorf("it has the header %s: only an Authorization with a bearer token is imported", key)
		}
		target["auth"] = object{"kind": "Inline", "inline": token}
	}
	target["static"] = static
	return nil
}

// name returns a target name for a server's, unique in this import.
func (im *importer) name(server string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, server)
	clean = strings.Trim(clean, "-")
	if clean == "" {
		clean = "server"
	}
	if len(clean) > 60 {
		clean = strings.TrimRight(clean[:60], "-")
	}
	unique := clean
	for n := 2; im.names[unique]; n++ {
		unique = clean + "-" + strconv.Itoa(n)
	}
	im.names[unique] = true
	return unique
}

// result writes the resources.
func (im *importer) result() (*Result, error) {
	data, err := yaml.Marshal(object{
		"apiVersion": "gateway.kgateway.dev/v1alpha1", "kind": "Backend", "metadata": object{"name": "mcp"},
		"spec": object{"type": "MCP", "mcp": object{"targets": im.targets}},
	})
	if err != nil {
		return nil, fmt.Errorf("writing resources: %w", err)
	}
	return &Result{YAML: data, Targets: slices.Sorted(maps.Keys(im.names)), Skipped: im.skipped}, nil
}
