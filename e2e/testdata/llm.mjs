// Asks a model by an official client: llm.mjs DIALECT URL KEY SCENARIO SENTINEL. Prints what
// it heard whole and what the client's own accumulator made of a stream.
import OpenAI from "openai";
import Anthropic from "@anthropic-ai/sdk";

const [dialect, url, apiKey, scenario, sentinel] = process.argv.slice(2);
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const openai = () => new OpenAI({ baseURL: url + "/v1", apiKey, maxRetries: 0 });

const clients = {
  async chat() {
    const ask = { model: "asked", messages: [{ role: "system", content: "be brief" }, { role: "user", content: "hi" }], [sentinel]: 1 };
    if (scenario === "tools") ask.tools = [{ type: "function", function: { name: "weather", parameters: schema } }];
    if (scenario === "structured") ask.response_format = { type: "json_schema", json_schema: { name: "city", strict: true, schema } };
    const hear = (c) => {
      const { message, finish_reason } = c.choices[0];
      return {
        Text: message.content ?? "", Thought: message.reasoning_content ?? "",
        Calls: message.tool_calls?.map((c) => `${c.function.name} ${c.function.arguments}`) ?? null,
        Stop: { stop: "stop", tool_calls: "tools" }[finish_reason], Input: c.usage.prompt_tokens, Output: c.usage.completion_tokens, Model: c.model,
      };
    };
    const Whole = hear(await openai().chat.completions.create(ask));
    const stream = openai().chat.completions.stream({ ...ask, stream_options: { include_usage: true } });
    let thought = ""; // which the accumulator replaces where others append
    for await (const chunk of stream) thought += chunk.choices[0]?.delta?.reasoning_content ?? "";
    const Streamed = hear(await stream.finalChatCompletion());
    Streamed.Thought = thought;
    return { Whole, Streamed };
  },
  async responses() {
    const ask = { model: "asked", instructions: "be brief", input: "hi", [sentinel]: 1 };
    if (scenario === "tools") ask.tools = [{ type: "function", name: "weather", strict: false, parameters: schema }];
    if (scenario === "structured") ask.text = { format: { type: "json_schema", name: "city", strict: true, schema } };
    const hear = (r) => {
      const calls = r.output.filter((i) => i.type === "function_call").map((i) => `${i.name} ${i.arguments}`);
      const thoughts = r.output.filter((i) => i.type === "reasoning").flatMap((i) => i.summary.map((s) => s.text));
      return {
        Text: r.output.filter((i) => i.type === "message").flatMap((i) => i.content.map((c) => c.text)).join(""), Thought: thoughts.join(""),
        Calls: calls.length ? calls : null, Stop: calls.length ? "tools" : "stop", Input: r.usage.input_tokens, Output: r.usage.output_tokens, Model: r.model,
      };
    };
    const Whole = hear(await openai().responses.create(ask));
    return { Whole, Streamed: hear(await openai().responses.stream(ask).finalResponse()) };
  },
  async messages() {
    const client = new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });
    const ask = { model: "asked", max_tokens: 4000, system: "be brief", messages: [{ role: "user", content: "hi" }], [sentinel]: 1 };
    if (scenario === "tools") {
      ask.thinking = { type: "enabled", budget_tokens: 1024 };
      ask.tools = [{ name: "weather", input_schema: schema }];
    }
    if (scenario === "structured") ask.output_config = { format: { type: "json_schema", schema } };
    const hear = (m) => {
      const of = (type) => m.content.filter((b) => b.type === type);
      const calls = of("tool_use").map((b) => `${b.name} ${JSON.stringify(b.input)}`);
      const u = m.usage;
      return {
        Text: of("text").map((b) => b.text).join(""), Thought: of("thinking").map((b) => b.thinking).join(""), Calls: calls.length ? calls : null,
        Stop: { end_turn: "stop", tool_use: "tools" }[m.stop_reason], Model: m.model,
        Input: u.input_tokens + (u.cache_read_input_tokens ?? 0) + (u.cache_creation_input_tokens ?? 0), Output: u.output_tokens,
      };
    };
    const Whole = hear(await client.messages.create(ask));
    return { Whole, Streamed: hear(await client.messages.stream(ask).finalMessage()) };
  },
  async embeddings() {
    const input = scenario === "one" ? "a" : ["a", "b"]; // which this client has in base64, unless it is told otherwise
    const hear = (list) => ({ Vectors: list.data.map((d) => d.embedding), Input: list.usage.prompt_tokens, Model: list.model });
    const ask = { model: "asked", input, dimensions: 256 };
    return { Base64: hear(await openai().embeddings.create(ask)), Float: hear(await openai().embeddings.create({ ...ask, encoding_format: "float" })) };
  },
};

try {
  console.log(JSON.stringify(await clients[dialect]()));
} catch (e) {
  if (scenario !== "fail") throw e;
  console.log(JSON.stringify({ Status: e.status, Type: e.constructor.name, Message: e.message }));
}
