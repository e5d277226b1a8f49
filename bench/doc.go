// Command bench measures the gateway beside what it is compared with: nginx, a
// tuned httputil.ReverseProxy (twice, so that a reader sees how much the same
// thing differs from itself), and no proxy at all. `make bench` runs it.
//
// The subjects stand in front of the same mock MCP server and get the same load.
// Rounds are interleaved, so that what else happens on the machine hits all of
// them alike; a run in which other work held the processors is tried again, and
// what is printed are medians. Where the machine has two processors, load and
// mock are pinned to the first and the subject to the second.
//
// The figure to trust is CPU time per request of the subject, as a ratio to the
// reverse proxy's of the same run; wall times mean little on a shared machine.
//
// The program is its own load generator, mock server (role "mock") and reverse
// proxy (role "proxy"), which it starts as processes of their own. It writes
// nothing but a temporary directory.
package main
