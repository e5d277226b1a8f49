module github.com/mcpgw/mcpgw

go 1.26.0
