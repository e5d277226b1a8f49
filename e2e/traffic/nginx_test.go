package traffic

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An nginx is Debian's nginx with a server at each address. hack/deps installs it.
type nginx struct {
	config  string
	command *exec.Cmd
}

// startNginx runs nginx until the test ends. Each server is what stands in its location /.
func startNginx(t testing.TB, locations map[string]string) *nginx {
	t.Helper()
	var servers strings.Builder
	var addresses []string
	for address, location := range locations {
		fmt.Fprintf(&servers, "  server { listen %s; location / { %s } }\n", address, location)
		addresses = append(addresses, address)
	}
	return runNginx(t, t.TempDir(), servers.String(), addresses...)
}

// runNginx runs nginx with servers at these addresses in a folder until the test ends.
func runNginx(t testing.TB, dir, servers string, addresses ...string) *nginx {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // which is not on everyone's PATH
	}
	n := &nginx{config: filepath.Join(dir, "nginx.conf")}
	text := fmt.Sprintf(`daemon off;
master_process off;
worker_processes 1;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 256; }
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
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.command = exec.Command(program, "-c", n.config, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	n.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said log
	n.command.Stderr = &said
	if err := n.command.Start(); err != nil {
		t.Fatalf("%v: hack/deps installs nginx", err)
	}
	t.Cleanup(func() {
		_ = n.command.Process.Kill()
		_ = n.command.Wait()
	})
	for _, address := range addresses {
		until(t, "nginx listens: "+said.String(), func() bool {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	return n
}
