package testgateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Nginx runs Debian's nginx until the test ends, and waits until it listens at the addresses. servers are its server blocks, which may name
// files of dir. hack/deps installs it.
func Nginx(t testing.TB, dir, servers string, addresses ...string) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // which is not on everyone's PATH
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
master_process off;
worker_processes 1;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  proxy_http_version 1.1;
  proxy_buffering off;
  proxy_set_header Host $host;
  default_type text/plain;
%[2]s}
`, dir, servers)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	Run(t, nil, program, "-c", config, "-p", dir, "-e", filepath.Join(dir, "error.log")).Listens(t, addresses...)
}
