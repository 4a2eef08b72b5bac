// Vercel's AI SDK with its provider for OpenAI-compatible servers: https://ai-sdk.dev/providers/openai-compatible-providers
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { serve } from "./protocol.mjs";

const Place = z.object({ city: z.string(), visits: z.number().int() });

function request(row) {
  const provider = createOpenAICompatible({
    name: "tabfleet",
    baseURL: row.base_url,
    apiKey: row.api_key,
    supportsStructuredOutputs: true,
  });
  const content = [{ type: "text", text: row.prompt }];
  if (row.image) content.push({ type: "image", image: row.image });
  const earlier = row.turns.map(([role, text]) => ({ role, content: text }));
  return { model: provider(row.model), messages: [...earlier, { role: "user", content }] };
}

const chat = async (row) => ({ text: (await generateText(request(row))).text });

await serve({
  chat,
  history: chat,
  image: chat,
  async stream(row) {
    const pieces = [];
    for await (const piece of streamText(request(row)).textStream) pieces.push(piece);
    return { pieces };
  },
  async tools(row) {
    const called = [];
    const weather = tool({
      description: "The weather in a city.",
      inputSchema: z.object({ city: z.string() }),
      async execute({ city }) {
        called.push({ city });
        return row.tool_result;
      },
    });
    const { text } = await generateText({ ...request(row), tools: { weather }, stopWhen: stepCountIs(3) });
    return { called, text };
  },
  async structured(row) {
    return { data: (await generateText({ ...request(row), output: Output.object({ schema: Place }) })).output };
  },
  stop: async (row) => ({ text: (await generateText({ ...request(row), stopSequences: [row.stop] })).text }),
});
