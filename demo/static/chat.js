import { Attachments } from "./attachments.js";
import { isKeptByScript, readToken, writeToken } from "./keep.js";
import { LoginRequired, Refused, SocketTransport, SseTransport } from "./transport.js";
import { Writer } from "./writer.js";

const find = (name) => document.querySelector(`[data-testid=${name}]`);
const [thread, welcome, notice, composer] = ["thread", "welcome", "notice", "composer"].map(find);
const [prompt, send, stop, model] = ["prompt", "send", "stop", "model"].map(find);
const scroll = document.querySelector("#scroll");
const { variant, account, models } = document.body.dataset;
const { kind, token } = await readToken(variant);
const overSocket = new URLSearchParams(location.search).get("transport") === "ws";
const transport = overSocket ? new SocketTransport(token) : new SseTransport(token);

const files = find("files");
const attachments = new Attachments(find("attachments"), token ? { Authorization: `Bearer ${token}` } : {}, {
  changed: () => refresh(),
  failed: (message) => say(message),
});

let current = null; // the message being answered

async function toLogin() {
  await writeToken(kind, null);
  const here = encodeURIComponent(location.pathname + location.search);
  const own = ["cookie", "any"].includes(kind ?? variant) ? "" : `/${kind ?? variant}`;
  location.replace(isKeptByScript(variant) ? `${own}/login` : `${own}/login?next=${here}`);
}

function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function startChat() {
  if (current) transport.leave();
  current = null;
  thread.replaceChildren();
  thread.dataset.conversation = newId();
  welcome.hidden = false;
  prompt.value = "";
  attachments.clear();
  say("");
  refresh();
  prompt.focus();
}

function refresh() {
  send.hidden = Boolean(current);
  stop.hidden = !current;
  send.disabled = !prompt.value.trim() || attachments.uploading;
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, 220)}px`;
}

function addMessage(role) {
  const article = document.createElement("article");
  article.dataset.testid = "message";
  article.dataset.role = role;
  const content = document.createElement("div");
  content.className = "content";
  content.dataset.testid = "content";
  article.append(content);
  thread.append(article);
  return article;
}

function keepInView() {
  if (keepInView.asked) return;
  keepInView.asked = true;
  requestAnimationFrame(() => {
    keepInView.asked = false;
    const below = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
    if (below < 200) scroll.scrollTop = scroll.scrollHeight;
  });
}

function spin(milliseconds) {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

// V8 aborts the process on an array longer than its maximum length; observed in Chromium 156.
function crash() {
  " ".repeat(0x8000100).split("");
}

// The reasoning stands above its answer, apart from its text.
function think(answer, text) {
  let thoughts = answer.querySelector("[data-testid=thoughts]");
  if (!thoughts) {
    thoughts = document.createElement("div");
    thoughts.className = "thoughts";
    thoughts.dataset.testid = "thoughts";
    answer.prepend(thoughts);
  }
  thoughts.append(text);
}

function take(event, answer, writer) {
  if (event.type === "token") writer.write(event.text);
  if (event.type === "thought") think(answer, event.text);
  if (event.type === "busy") spin(event.ms);
  if (event.type === "crash") crash();
  if (event.type === "error") say(event.message);
  if (["done", "stopped", "error"].includes(event.type)) answer.dataset.state = event.type;
  keepInView();
}

async function ask(message) {
  const answer = addMessage("assistant");
  answer.dataset.state = "streaming";
  const writer = new Writer(answer.querySelector(".content"));
  try {
    await transport.ask(message, (event) => { if (current === message) take(event, answer, writer); });
    if (answer.dataset.state === "streaming") throw new Error();
  } catch (error) {
    if (current !== message) return;
    answer.dataset.state = "error";
    if (error instanceof LoginRequired) toLogin();
    else say(error instanceof Refused ? error.message : "The connection was lost before the answer was complete.");
  }
  if (current !== message) return;
  if (answer.dataset.state === "done") answer.dataset.done = "true";
  current = null;
  refresh();
}

function submit() {
  if (current || !prompt.value.trim() || attachments.uploading) return;
  say("");
  welcome.hidden = true;
  const message = { conversation: thread.dataset.conversation, model: model.value, prompt: prompt.value };
  if (attachments.ids.length) message.images = attachments.ids;
  const mine = addMessage("user");
  mine.querySelector(".content").textContent = message.prompt;
  mine.append(...attachments.take());
  prompt.value = "";
  current = message;
  refresh();
  scroll.scrollTop = scroll.scrollHeight;
  ask(message);
}

function showAccount(name) {
  const element = document.querySelector("#account");
  element.textContent = name;
  element.dataset.testid = "account";
}

async function logOut(event) {
  if (!isKeptByScript(variant)) return;
  event.preventDefault();
  await transport.post("/token/logout", {});
  toLogin();
}

// What a site does by itself before a session ends, for a site file's steps to ask for.
async function stayLoggedIn() {
  find("refreshed").hidden = true;
  const response = await transport.post("/api/refresh", {});
  if (response.status === 401) return toLogin();
  find("refreshed").hidden = !response.ok;
}

async function start() {
  model.append(...models.split(" ").map((name) => new Option(name)));
  composer.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  prompt.addEventListener("input", refresh);
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  find("attach").addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    attachments.add([...files.files]);
    files.value = "";
  });
  prompt.addEventListener("paste", (event) => {
    const pasted = [...event.clipboardData.files];
    if (!pasted.length) return;
    event.preventDefault();
    attachments.add(pasted);
  });
  stop.addEventListener("click", () => transport.stop(current));
  find("new-chat").addEventListener("click", startChat);
  document.querySelector("#logout").addEventListener("submit", logOut);
  find("refresh").addEventListener("click", stayLoggedIn);
  find("refresh").hidden = variant !== "refresh";
  startChat();
  if (!isKeptByScript(variant)) return showAccount(account);
  const response = token && await fetch("/api/me", { headers: { Authorization: `Bearer ${token}` } });
  if (!response || response.status === 401) return toLogin();
  showAccount((await response.json()).account);
}

start();
