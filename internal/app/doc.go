// Package app is the composition root: it puts sources, the data plane and the
// gateway's own listeners together into the process that `mcpgw serve` is, and
// holds what the other commands do.
//
// [Serve] runs a gateway until its context ends; [Validate] only reports; [Client]
// is the command line's own MCP client. Package cmd/mcpgw turns flags into the
// options of these functions and their errors into exit codes, and the end-to-end tests start the
// same code as a process. No package imports this one but those two, and nothing
// here decides anything about a request.
package app
