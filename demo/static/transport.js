// The two transports. Each has ask(message, onEvent) -> Promise, stop(message) and leave().

export class LoginRequired extends Error {}
export class Refused extends Error {}

const LOGIN_REQUIRED_CLOSE = 4401;
const LOST = "The connection was lost before the answer was complete.";

export class SseTransport {
  constructor(token) {
    this.headers = { "Content-Type": "application/json" };
    if (token) this.headers.Authorization = `Bearer ${token}`;
  }

  post(path, data, signal) {
    return fetch(path, { method: "POST", headers: this.headers, body: JSON.stringify(data), signal });
  }

  async ask(message, onEvent) {
    this.controller = new AbortController();
    const response = await this.post("/api/chat", message, this.controller.signal);
    if (response.status === 401) throw new LoginRequired();
    if (!response.ok) throw new Refused((await response.json()).message);
    let rest = "";
    for await (const text of textOf(response.body)) {
      const blocks = (rest + text).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) onEvent(JSON.parse(block.slice("data: ".length)));
    }
  }

  async stop(message) {
    await this.post("/api/stop", { conversation: message.conversation });
  }

  leave() {
    this.controller?.abort();
  }
}

async function* textOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

// What is no answer, such as a logout, goes by `post` as well.
export class SocketTransport extends SseTransport {
  constructor(token) {
    super(token);
    this.token = token;
  }

  async open() {
    if (this.socket?.readyState === WebSocket.OPEN) return;
    const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/api/ws`);
    this.socket = socket;
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error(LOST));
    });
    if (this.token) this.send({ type: "auth", token: this.token });
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  async ask(message, onEvent) {
    await this.open();
    await new Promise((resolve, reject) => {
      this.socket.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        onEvent(event);
        if (["done", "stopped", "error"].includes(event.type)) resolve();
      };
      this.socket.onclose = ({ code }) => reject(closeError(code));
      this.send({ type: "ask", ...message });
    });
  }

  async stop() {
    this.send({ type: "stop" });
  }

  leave() {
    this.socket?.close();
  }
}

function closeError(code) {
  if (code === LOGIN_REQUIRED_CLOSE) return new LoginRequired();
  if (code === 1009) return new Refused("The message is too long. Shorten it and send it again.");
  return new Error(LOST);
}
