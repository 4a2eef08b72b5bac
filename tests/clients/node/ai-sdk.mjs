// Vercel's AI SDK with its provider for OpenAI-compatible servers: https://ai-sdk.dev/providers/openai-compatible-providers
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { scenarios } from "./ai-sdk-scenarios.mjs";
import { serve } from "./protocol.mjs";

await serve(
  scenarios((row) =>
    createOpenAICompatible({
      name: "tabfleet",
      baseURL: row.base_url,
      apiKey: row.api_key,
      headers: row.headers,
      supportsStructuredOutputs: true,
    }),
  ),
);
