// LangChain.js: https://docs.langchain.com/oss/javascript/integrations/chat/openai
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent } from "langchain";
import { z } from "zod";
import { messages, serve } from "./protocol.mjs";

const Place = z.object({ city: z.string(), visits: z.number().int() });
const connect = (row, more = {}) =>
  new ChatOpenAI({
    model: row.model,
    apiKey: row.api_key,
    configuration: { baseURL: row.base_url, defaultHeaders: row.headers },
    ...more,
  });

const chat = async (row) => ({ text: (await connect(row).invoke(messages(row))).content });

await serve({
  chat,
  history: chat,
  image: chat,
  async stream(row) {
    const pieces = [];
    for await (const chunk of await connect(row).stream(messages(row))) pieces.push(chunk.content);
    return { pieces };
  },
  async tools(row) {
    const called = [];
    const weather = tool(
      ({ city }) => {
        called.push({ city });
        return row.tool_result;
      },
      { name: "weather", description: "The weather in a city.", schema: z.object({ city: z.string() }) },
    );
    const agent = createAgent({ model: connect(row), tools: [weather] });
    const answer = await agent.invoke({ messages: messages(row) });
    return { called, text: answer.messages.at(-1).content };
  },
  structured: async (row) => ({ data: await connect(row).withStructuredOutput(Place).invoke(messages(row)) }),
  stop: async (row) => ({ text: (await connect(row, { stop: [row.stop] }).invoke(messages(row))).content }),
});
