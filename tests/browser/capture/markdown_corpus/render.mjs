// Renders sources/*.md with the packages of package.json, as chat pages do, and prints JSON: see generate.py.
import { readFileSync, readdirSync } from "node:fs";
import hljs from "highlight.js";
import { createElement } from "react";
import { renderToStaticMarkup } from "react-dom/server";
import ReactMarkdown from "react-markdown";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import rehypeHighlight from "rehype-highlight";
import rehypeKatex from "rehype-katex";
import MarkdownIt from "markdown-it";
import footnotes from "markdown-it-footnote";
import tasks from "markdown-it-task-lists";
import katexOf from "@vscode/markdown-it-katex";
import { Marked } from "marked";
import { markedHighlight } from "marked-highlight";
import { createHighlighter } from "shiki";

const here = new URL(".", import.meta.url);
const names = readdirSync(new URL("sources/", here)).filter((file) => !file.includes(".expected.")).sort();
const sources = Object.fromEntries(
  names.map((file) => [file.replace(".md", ""), readFileSync(new URL(`sources/${file}`, here), "utf8")]));

const highlight = (code, language) =>
  hljs.getLanguage(language) ? hljs.highlight(code, { language }).value : "";
const markdownIt = new MarkdownIt({ html: true, highlight }).use(footnotes).use(tasks).use(katexOf.default ?? katexOf);
const highlighter = await createHighlighter({ themes: ["github-dark"], langs: ["python", "js", "md"] });
const shiki = new MarkdownIt({
  highlight: (code, language) =>
    highlighter.codeToHtml(code.replace(/\n$/, ""), { lang: language || "text", theme: "github-dark" }),
});
const marked = new Marked(
  markedHighlight({ langPrefix: "hljs language-", highlight: (code, language) => highlight(code, language) || code }));
const react = (text) => renderToStaticMarkup(createElement(ReactMarkdown, {
  remarkPlugins: [remarkGfm, remarkMath],
  rehypePlugins: [rehypeKatex, rehypeHighlight],
  children: text,
}));

const all = Object.keys(sources);
const without = (...left) => all.filter((name) => !left.includes(name));
const renderers = {
  "markdown-it": [(text) => markdownIt.render(text), all],
  "marked": [(text) => marked.parse(text), without("footnotes", "math")],
  "react-markdown": [react, without("details")], // it leaves HTML out
  "shiki": [(text) => shiki.render(text), ["code", "nested-code"]],
};
const rendered = {};
for (const [renderer, [render, of]] of Object.entries(renderers)) {
  for (const name of of) (rendered[renderer] ??= {})[name] = render(sources[name]);
}

// An answer as it grows, in pieces as they come from models: what a page shows after each of them.
const GROWING = ["prose", "lists", "code", "tables", "quotes", "tasks"].map((name) => sources[name]).join("\n");
const pieces = GROWING.match(/[^]{1,17}/g);
const ends = pieces.reduce((found, piece) => [...found, found.at(-1) + piece.length], [0]).slice(1);
const growing = Object.fromEntries(["markdown-it", "marked", "react-markdown"].map((renderer) =>
  [renderer, ends.map((end) => renderers[renderer][0](GROWING.slice(0, end)))]));

// What later text changes of earlier text: links and footnotes that are defined after them.
const REFERRING = `See [the docs][1], [docs] and a note[^1] in words.

- an item with ![a picture][1] and one more[^2]
- a word

[1]: http://h/x "title"
[docs]: http://h/y

[^1]: The first note.

[^2]: The second.

A paragraph with [the docs][1] again.

The last paragraph.
`;
const NAMED = `A note[^why] and one more[^1] in words.

Another paragraph of words.

[^why]: This is why.

[^1]: The other note.

The last paragraph.
`;
const late = Object.fromEntries(Object.entries({ referring: REFERRING, named: NAMED }).map(([name, text]) =>
  [name, Object.fromEntries(["markdown-it", "marked", "react-markdown"].map((renderer) =>
    [renderer, text.match(/[^]{1,7}/g).map((_, index) => renderers[renderer][0](text.slice(0, 7 * (index + 1))))]))]));
console.log(JSON.stringify({ rendered, growing, late }));
