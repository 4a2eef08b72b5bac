// What Vercel's AI SDK does in each scenario, with the provider that `connect` makes of a row.
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const Place = z.object({ city: z.string(), visits: z.number().int() });

export function scenarios(connect) {
  function request(row) {
    const content = [{ type: "text", text: row.prompt }];
    if (row.image) content.push({ type: "image", image: row.image });
    const earlier = row.turns.map(([role, text]) => ({ role, content: text }));
    return { model: connect(row)(row.model), messages: [...earlier, { role: "user", content }] };
  }

  const chat = async (row) => ({ text: (await generateText(request(row))).text });

  return {
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
  };
}
