// An MCP client on the TypeScript SDK that does what it is told: it reads commands
// from stdin, a JSON object a line, and writes to stdout, likewise, how they ended
// and all that happened meanwhile. One process holds many connections. The argument
// says which SDK: v1 (@modelcontextprotocol/sdk) or v2 (@modelcontextprotocol/client).
import { createInterface } from "node:readline";

const v2 = process.argv[2] === "v2";
const sdk = v2
  ? await import("@modelcontextprotocol/client")
  : {
      ...(await import("@modelcontextprotocol/sdk/client/index.js")),
      ...(await import("@modelcontextprotocol/sdk/client/streamableHttp.js")),
    };
const types = v2 ? {} : await import("@modelcontextprotocol/sdk/types.js");
const { z } = await import("zod");
const anything = z.looseObject({});

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const peers = new Map(); // connections by the name that commands use
const calls = new Map(); // AbortControllers of requests under way, by the id of their command
let exchanges = 0;

// The fetch of a connection, which tells all that it receives.
const recording = (peer) => async (url, init) => {
  const exchange = ++exchanges;
  const request = init?.method === "POST" ? (JSON.parse(init.body).method ?? "response") : (init?.method ?? "GET");
  say({ peer, exchange, request });
  const response = await fetch(url, init);
  if (!response.body) return response;
  const decoder = new TextDecoder();
  const told = new TransformStream({
    transform(chunk, controller) {
      say({ peer, exchange, text: decoder.decode(chunk, { stream: true }) });
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(told), response);
};

// What the user of this client answers.
const answers = {
  "elicitation/create": (params) => (params.mode === "url" ? { action: "accept" } : { action: "accept", content: { name: "Ada" } }),
  "sampling/createMessage": (params) => {
    const blocks = [params.messages[0].content].flat();
    const text = { type: "text", text: "sampled: " + blocks[0].text };
    if (!params.tools?.length) return { model: "m", role: "assistant", content: text };
    const use = { type: "tool_use", id: "u1", name: params.tools[0].name, input: { of: blocks[0].text } };
    return { model: "m", role: "assistant", stopReason: "toolUse", content: [use] };
  },
  "roots/list": (_, peer) => ({ roots: [{ uri: "file:///" + peer, name: peer }] }),
};

const notifications = [
  "notifications/tools/list_changed",
  "notifications/prompts/list_changed",
  "notifications/resources/list_changed",
  "notifications/resources/updated",
  "notifications/message",
];

async function connect(command) {
  const { peer, url, capabilities } = command;
  const client = new sdk.Client(
    { name: peer, version: "1" },
    { capabilities, ...(v2 ? { versionNegotiation: { mode: { pin: "2026-07-28" } } } : {}) },
  );
  const heard = ({ method, params }) => say({ peer, message: { method, params: params ?? {} } });
  const asked = (request) => {
    heard(request);
    return answers[request.method](request.params, peer);
  };
  const requests = [
    capabilities.elicitation && "elicitation/create",
    capabilities.sampling && "sampling/createMessage",
    capabilities.roots && "roots/list",
  ].filter(Boolean);
  if (v2) {
    for (const method of requests) client.setRequestHandler(method, asked);
    for (const method of notifications) client.setNotificationHandler(method, heard);
  } else {
    const schemas = {
      "elicitation/create": types.ElicitRequestSchema,
      "sampling/createMessage": types.CreateMessageRequestSchema,
      "roots/list": types.ListRootsRequestSchema,
    };
    for (const method of requests) client.setRequestHandler(schemas[method], asked);
  }
  client.fallbackNotificationHandler = async (n) => heard(n);
  client.fallbackRequestHandler = async (r) => {
    heard(r);
    throw Object.assign(new Error("Method not found"), { code: -32601 });
  };
  const transport = new sdk.StreamableHTTPClientTransport(new URL(url), { fetch: recording(peer) });
  await client.connect(transport);
  const connection = { client, subscriptions: new Map() };
  const has = client.getServerCapabilities();
  if (v2) {
    const filter = {};
    for (const kind of ["tools", "prompts", "resources"]) if (has?.[kind]?.listChanged) filter[kind + "ListChanged"] = true;
    connection.changes = await client.listen(filter);
  }
  peers.set(peer, connection);
  return {
    protocolVersion: v2 ? client.getNegotiatedProtocolVersion() : transport.protocolVersion,
    capabilities: has,
    instructions: client.getInstructions(),
    serverInfo: client.getServerVersion(),
  };
}

// How the SDK's client does a request, by method.
const how = {
  ping: ({ client }, _, o) => client.ping(o),
  "logging/setLevel": ({ client }, p, o) => client.setLoggingLevel(p.level, o),
  "completion/complete": ({ client }, p, o) => client.complete(p, o),
  "prompts/get": ({ client }, p, o) => client.getPrompt(p, o),
  "prompts/list": ({ client }, p, o) => client.listPrompts(p, o),
  "resources/list": ({ client }, p, o) => client.listResources(p, o),
  "resources/templates/list": ({ client }, p, o) => client.listResourceTemplates(p, o),
  "resources/read": ({ client }, p, o) => client.readResource(p, o),
  "tools/list": ({ client }, p, o) => client.listTools(p, o),
  "tools/call": ({ client }, p, o) => (v2 ? client.callTool(p, o) : client.callTool(p, undefined, o)),
  "resources/subscribe": async ({ client, subscriptions }, p, o) => {
    if (!v2) return client.subscribeResource(p, o);
    subscriptions.set(p.uri, await client.listen({ resourceSubscriptions: [p.uri] }, o));
    return {};
  },
  "resources/unsubscribe": async ({ client, subscriptions }, p, o) => {
    if (!v2) return client.unsubscribeResource(p, o);
    await subscriptions.get(p.uri).close();
    subscriptions.delete(p.uri);
    return {};
  },
};

async function request(command) {
  const { id, peer, method } = command;
  const params = command.params ?? {};
  const abort = new AbortController();
  calls.set(id, abort);
  const options = { signal: abort.signal, timeout: 300_000, ...(v2 ? { cacheMode: "bypass" } : {}) };
  if (params._meta?.progressToken !== undefined) {
    // The SDK makes a token of its own, and delivers by it.
    delete params._meta.progressToken;
    options.onprogress = (progress) => say({ peer, message: { method: "notifications/progress", params: progress } });
  }
  try {
    const connection = peers.get(peer);
    if (how[method]) return await how[method](connection, params, options);
    return await connection.client.request({ method, params }, anything, options);
  } finally {
    calls.delete(id);
  }
}

async function run(command) {
  switch (command.op) {
    case "connect":
      return connect(command);
    case "request":
      return request(command);
    case "cancel":
      calls.get(command.call)?.abort("no longer wanted");
      return {};
    case "rootsChanged":
      await peers.get(command.peer).client.sendRootsListChanged();
      return {};
    case "close":
      await peers.get(command.peer).client.close();
      peers.delete(command.peer);
      return {};
    default:
      throw new Error("unknown command " + command.op);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  run(command).then(
    (result) => say({ id: command.id, result }),
    (e) => say({ id: command.id, error: { code: typeof e?.code === "number" ? e.code : 0, message: String(e?.message ?? e), data: e?.data } }),
  );
}
process.exit(0);
