// OpenAI's own SDK: https://github.com/openai/openai-node
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { WEATHER, messages, serve } from "./protocol.mjs";

const Place = z.object({ city: z.string(), visits: z.number().int() });
const connect = (row) => new OpenAI({ baseURL: row.base_url, apiKey: row.api_key, defaultHeaders: row.headers });

async function ask(row, conversation, more = {}) {
  const body = { model: row.model, messages: conversation, ...more };
  return (await connect(row).chat.completions.create(body)).choices[0].message;
}

const chat = async (row) => ({ text: (await ask(row, messages(row))).content });

await serve({
  models: async (row) => ({ models: (await connect(row).models.list()).data.map((model) => model.id) }),
  chat,
  history: chat,
  image: chat,
  async stream(row) {
    const body = { model: row.model, messages: messages(row), stream: true };
    const pieces = [];
    for await (const chunk of await connect(row).chat.completions.create(body)) {
      pieces.push(chunk.choices[0].delta.content ?? "");
    }
    return { pieces };
  },
  async tools(row) {
    const asked = await ask(row, messages(row), { tools: [WEATHER] });
    const [call] = asked.tool_calls;
    const result = { role: "tool", tool_call_id: call.id, content: row.tool_result };
    const answer = await ask(row, [...messages(row), asked, result], { tools: [WEATHER] });
    return { called: [JSON.parse(call.function.arguments)], text: answer.content };
  },
  async structured(row) {
    const body = { model: row.model, messages: messages(row), response_format: zodResponseFormat(Place, "place") };
    return { data: (await connect(row).chat.completions.parse(body)).choices[0].message.parsed };
  },
  stop: async (row) => ({ text: (await ask(row, messages(row), { stop: [row.stop] })).content }),
});
