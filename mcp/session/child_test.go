package session

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpgw/mcpgw/mcp/protocol"
)

// child is what the test binary does when it is started as a stdio target.
func child(mode string) {
	switch mode {
	case "modern":
		_ = sdkServer().Run(context.Background(), &mcp.StdioTransport{})
	case "legacy":
		_ = sdkServer(protocol.Version20251125, protocol.Version20250618).Run(context.Background(), &mcp.StdioTransport{})
	default:
		script(mode)
	}
}

// script is a hand-written server, badly behaved in the way that mode says.
func script(mode string) {
	if mode == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
		grandchild := exec.Command(os.Args[0])
		grandchild.Env = append(os.Environ(), "MCPGW_TEST_CHILD=sleep")
		grandchild.Stdout = os.Stdout // keeps the pipe open
		if err := grandchild.Start(); err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stderr, "grandchild", grandchild.Process.Pid)
	}
	if gate := os.Getenv("GATE"); gate != "" { // what a slow start waits for
		for {
			if _, err := os.Stat(gate); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	if mode == "sleep" {
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	}
	if mode == "noisy" {
		for range 1000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 4096), os.Getenv("SECRET"))
		}
		fmt.Fprintln(os.Stderr, "the secret is", os.Getenv("SECRET"))
		fmt.Fprint(os.Stdout, "Welcome to the server!\n\n{\"not\":\"a message\"}\n")
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	var last *protocol.Message
	least := severity("notice")
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		m, err := protocol.Parse(bytes.Clone(bytes.TrimSpace(line)), protocol.Limits{})
		if err != nil {
			panic(err)
		}
		answer := func(result string) {
			fmt.Printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":%s}\n", m.ID, result)
		}
		textResult := func(s string) { answer(`{"content":[{"type":"text","text":"` + s + `"}]}`) }
		switch m.Method {
		case "server/discover":
			switch mode {
			case "slow modern":
				answer(`{"supportedVersions":["2026-07-28"],"capabilities":{}}`)
				continue
			case "shy":
				os.Exit(1)
			case "mute":
				continue
			}
			fmt.Printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":-32601,\"message\":\"no\"}}\n", m.ID)
		case "initialize":
			if mode == "slow modern" {
				fmt.Printf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":-32601,\"message\":\"no\"}}\n", m.ID)
				continue
			}
			answer(`{"protocolVersion":"2025-06-18","capabilities":{"logging":{},"tools":{"listChanged":true}},"serverInfo":{"name":"script","version":"1"}}`)
		case "logging/setLevel":
			level, _ := protocol.GetString(m.Params, "level")
			least = severity(level)
			answer(`{}`)
		case "tools/call":
			name, _ := protocol.GetString(m.Params, "name")
			arg, _ := protocol.GetString(m.Params, "arguments", "text")
			switch name {
			case "pid":
				textResult(fmt.Sprint(os.Getpid()))
			case "env":
				var names []string
				for _, e := range os.Environ() {
					k, _, _ := strings.Cut(e, "=")
					names = append(names, k)
				}
				textResult(strings.Join(names, " "))
			case "crash":
				os.Exit(3)
			case "hold": // is answered with the next call
				last = m
			case "flip":
				textResult(arg)
				if last != nil {
					held := m
					m = last
					heldArg, _ := protocol.GetString(m.Params, "arguments", "text")
					textResult(heldArg)
					m, last = held, nil
				}
			case "log":
				for _, level := range levels[least:] {
					fmt.Println(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","data":1}}`)
				}
				textResult(levels[least])
			case "changed":
				fmt.Println(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
				textResult("ok")
			case "ask":
				fmt.Println(`{"jsonrpc":"2.0","id":"q-` + arg + `","method":"elicitation/create","params":{"message":"` + arg + `"}}`)
				last = m
			case "long":
				fmt.Println(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":{"x":"` + strings.Repeat("y", 2<<20) + `"}}`)
			case "twice":
				textResult("first")
				textResult("second")
				fmt.Println(`{"jsonrpc":"2.0","id":` + string(m.ID) + `.0,"result":{"content":[]}}`)
				fmt.Println(`{"jsonrpc":"2.0","id":"` + string(m.ID) + `","result":{"content":[]}}`)
			case "garbage":
				fmt.Println(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":{"a":1,"a":2}}`)
			default:
				textResult(arg)
			}
		case "":
			if last != nil { // the answer to ask
				m.ID, last = last.ID, nil
				if m.Error != nil {
					textResult("refused")
				} else {
					action, _ := protocol.GetString(m.Result, "action")
					textResult(action)
				}
			}
		}
	}
	if mode == "stubborn" {
		time.Sleep(time.Hour)
	}
}
