// Vercel's AI SDK with its own provider for OpenAI, which uses Responses: https://ai-sdk.dev/providers/ai-sdk-providers/openai
import { createOpenAI } from "@ai-sdk/openai";
import { scenarios } from "./ai-sdk-scenarios.mjs";
import { serve } from "./protocol.mjs";

await serve(scenarios((row) => createOpenAI({ baseURL: row.base_url, apiKey: row.api_key, headers: row.headers })));
