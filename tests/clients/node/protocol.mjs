// The protocol of tests/clients/python/protocol.py: one JSON line in for each row, one JSON line out.
import { createInterface } from "node:readline";

export const PLACE = {
  type: "object",
  properties: { city: { type: "string" }, visits: { type: "integer" } },
  required: ["city", "visits"],
  additionalProperties: false,
};

export const WEATHER = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather in a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

/** Return the row's conversation in OpenAI's form, with the prompt as its last message. */
export function messages(row) {
  const earlier = row.turns.map(([role, content]) => ({ role, content }));
  const image = { type: "image_url", image_url: { url: row.image } };
  const content = row.image ? [{ type: "text", text: row.prompt }, image] : row.prompt;
  return [...earlier, { role: "user", content }];
}

/** Answer rows until stdin ends. What the client itself prints goes to stderr. */
export async function serve(scenarios) {
  for (const method of ["log", "info", "debug"]) console[method] = console.error;
  for await (const line of createInterface({ input: process.stdin })) {
    const row = JSON.parse(line);
    let answer;
    try {
      answer = await scenarios[row.scenario](row);
    } catch (error) {
      answer = { error: { name: error.name, status: status(error), message: String(error.message).slice(0, 2000) } };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

/** Return the HTTP status that the client's exception, or one inside it, tells. */
function status(error) {
  for (const inner of [error, error.lastError, error.cause]) {
    const found = inner?.status ?? inner?.statusCode;
    if (typeof found === "number") return found;
  }
  return null;
}
