// A client on the TypeScript SDK, version 1: lists and calls tools of the MCP
// endpoint given as argument and prints what it got as JSON.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const client = new Client({ name: "e2e-typescript", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const echo = await client.callTool({ name: "everything_echo", arguments: { message: "from TypeScript" } });
const sum = await client.callTool({ name: "demo_add", arguments: { a: 40, b: 2 } });
let error = "";
try {
  await client.callTool({ name: "everything_none", arguments: {} });
} catch (e) {
  error = String(e);
}
console.log(JSON.stringify({ tools, echo: echo.content[0].text, sum: sum.structuredContent.sum, error }));
await client.close();
