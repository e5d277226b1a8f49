// Mcpgw is an MCP-centric federation gateway: it serves the tools of many MCP
// servers as one, under policies, from resources in YAML files. Run `mcpgw help`.
//
// This package turns command lines into calls of package internal/app, and errors into exit
// codes. It decides nothing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/mcpgw/mcpgw/internal/app"
)

// version is set by the linker.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	err := newRoot().ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
	}
	os.Exit(int(app.CodeOf(err)))
}
