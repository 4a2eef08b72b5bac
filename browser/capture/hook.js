// Runs in the page, and in its frames of the same origin, before their own scripts. Copies what they receive of an
// answer to the child's stream port, over a WebSocket of its own, and changes nothing of what they receive.
// CONFIG is replaced by a JSON object and DOM by dom.js (browser/capture/scripts.py); `config` is made in
// browser/capture/capture.py, and the frames that are sent are described in browser/capture/frames.py.
(() => {
  "use strict";
  const config = CONFIG;
  const isTop = window === window.top;
  if ((isTop ? location : window).origin !== config.origin || config.name in window) return;

  // What the page and its frames share: a frame copies for the page's turn, and sends by the page's sink. The token keeps
  // it from the page's own scripts.
  const shared = isTop
    ? { turn: null, streams: 0, copied: new Set(), ready: new Set(), windows: new WeakSet(), rooted: false, notice() {} }
    : sharedByTop();
  if (!shared) return;
  function sharedByTop() {
    try { return window.top[config.name].share(config.token); } catch { return null; } // it is another origin's
  }

  // Roots that come with the HTML are looked for once it is all there; scripts attach others by what is wrapped below.
  const mayHaveRoots = () => shared.rooted || document.readyState === "loading";
  const dom = DOM(mayHaveRoots);
  document.addEventListener("DOMContentLoaded", () => { shared.rooted ||= dom.rootsIn(document).length > 0; });
  if (!isTop) shared.notice(); // its document may be where the answer will show
  // A frame's first empty document may leave its window to the next one: what is wrapped once must not be again.
  if (shared.windows.has(window)) return;
  shared.windows.add(window);

  // A blinking caret is most of what an idle page costs. Focus and elements stay as the page has them.
  if (CSS.supports("caret-animation", "manual")) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(":root { caret-animation: manual }");
    document.adoptedStyleSheets = [sheet];
  }

  // The page's scripts may replace any of these later, to look into what is sent or to forge it: all are kept now.
  const { apply, construct } = Reflect;
  const NativeSocket = window.WebSocket;
  const NativeRequest = window.Request;
  const socketSend = NativeSocket.prototype.send;
  const listen = EventTarget.prototype.addEventListener;
  const then = Promise.prototype.then;
  const clone = Response.prototype.clone;
  const bodyOf = Object.getOwnPropertyDescriptor(Response.prototype, "body").get;
  const getReader = ReadableStream.prototype.getReader;
  const { read, cancel } = ReadableStreamDefaultReader.prototype;
  const toBuffer = Blob.prototype.arrayBuffer;
  const NativeController = window.AbortController;
  const NativeSignal = window.AbortSignal;
  const { abort } = NativeController.prototype;
  const later = window.setTimeout;
  const nativeConsole = window.console;
  const { debug } = nativeConsole;
  const toBase64 = window.btoa;
  const fromCodes = String.fromCharCode;
  const encoder = new TextEncoder();
  const encode = (text) => apply(TextEncoder.prototype.encode, encoder, [text]);
  const { stringify } = JSON;

  // As FrameKind in browser/capture/frames.py.
  const KIND = { ARMED: 0, OPEN: 1, CHUNK: 2, END: 3, BROKEN: 4, EVENT: 5, DOM_ADD: 6, DOM_SET: 7, DOM_DONE: 8, DOM_ERROR: 9, LOGIN_LOST: 10, DOM_REASONING: 11, LOOK: 12 };
  const HEADER = 25;
  const rule = config.rule && {
    ...config.rule,
    url: new RegExp(config.rule.url),
    ready: config.rule.ready.map((pattern) => new RegExp(pattern)),
  };

  const lostLogins = config.lost.map(({ url, status }) => ({ url: new RegExp(url), status }));

  const sinks = { socket: null, console: null };

  // Frames go over a WebSocket or, where the page's policy forbids that, over the browser's console. What is sent
  // before the WebSocket is open waits in the backlog.
  function connect() {
    const socket = new NativeSocket(`ws://127.0.0.1:${config.port}/`);
    const backlog = [];
    const sending = (frame) => apply(socketSend, socket, [frame]);
    const made = { dead: false, send: (frame) => backlog.push(frame) };
    apply(listen, socket, ["open", () => {
      sending(config.token);
      backlog.forEach(sending);
      made.send = sending;
    }]);
    // Chromium tells of a socket that a policy forbids by "error" alone.
    apply(listen, socket, ["message", () => answerLook(made)]);
    for (const name of ["close", "error"]) apply(listen, socket, [name, () => { made.dead = true; }]);
    return made;
  }

  function useConsole() {
    const send = (frame) => {
      let text = "";
      for (let at = 0; at < frame.length; at += 8192) text += apply(fromCodes, String, frame.subarray(at, at + 8192));
      apply(debug, nativeConsole, [`${config.name} ${apply(toBase64, window, [text])}`]);
    };
    return { dead: false, send };
  }

  function sinkBy(by) {
    if (!sinks[by] || sinks[by].dead) sinks[by] = by === "console" ? useConsole() : connect();
    return sinks[by];
  }

  // A frame: nonce (16 bytes), sequence number (u32), stream (u32), kind (u8), payload.
  function emit(from, kind, stream, payload) {
    if (from !== shared.turn || from.sink.dead) return;
    from.sink.send(frameOf(from.nonce, from.sequence++, kind, stream, payload));
  }

  function frameOf(nonce, sequence, kind, stream, payload) {
    const frame = new Uint8Array(HEADER + payload.length);
    const view = new DataView(frame.buffer);
    frame.set(nonce);
    view.setUint32(16, sequence);
    view.setUint32(20, stream);
    view.setUint8(24, kind);
    frame.set(payload, HEADER);
    return frame;
  }

  // A message of the child is a look; why one fails the child finds out by itself. What is found has no prototype, so that
  // nothing of the page's own has a say in how it is written. An empty message says that it is as it was told last.
  let looks = null;
  function answerLook(sink) {
    if (!looks || sink !== looks.sink) return;
    const number = looks.number++;
    let found = "";
    try { found = stringify({ __proto__: null, ...dom.look(looks.wish) }); } catch {}
    if (found === looks.told) return sink.send(nothing);
    looks.told = found;
    sink.send(frameOf(looks.nonce, number, KIND.LOOK, 0, encode(found)));
  }

  const nothing = new Uint8Array(0);
  const wanted = (kinds, url, method) =>
    shared.turn && rule && kinds.includes(rule.kind) && rule.url.test(url) && (!rule.method || rule.method === method);
  const absolute = (url) => { try { return new URL(url, document.baseURI).href; } catch { return ""; } };
  const STREAMED = ["sse", "jsonl"];

  // A request of the page's own got a response that tells that the session is over.
  function noteStatus(from, urls, status) {
    const tells = (lost) => lost.status.includes(status) && urls.some((url) => lost.url.test(url));
    if (lostLogins.some(tells)) emit(from, KIND.LOGIN_LOST, 0, nothing);
  }

  // `copied` counts the chunks, for whoever waits for the copy to be complete.
  async function copyBody(from, stream, response, copied) {
    try {
      emit(from, KIND.OPEN, stream, encode(stringify({ status: response.status })));
      const body = apply(bodyOf, apply(clone, response, []), []);
      const reader = body && apply(getReader, body, []);
      if (reader) from.readers.push(reader);
      while (reader) {
        const { done, value } = await apply(read, reader, []);
        if (done) break;
        copied.chunks++;
        emit(from, KIND.CHUNK, stream, value);
      }
      emit(from, KIND.END, stream, nothing);
    } catch {
      emit(from, KIND.BROKEN, stream, nothing);
    }
  }

  // The copy of a body keeps its request alive after the page has cancelled its own: the site would write on.
  function release(from) {
    for (const reader of from.readers) apply(then, apply(cancel, reader, []), [undefined, () => {}]);
  }

  // Some pages abort a request once they have read the answer's end; Firefox then drops what the copy has not read,
  // and the copy may lag behind. So the abort waits until between two looks nothing was copied.
  const ABORT_LOOK_MS = 20;
  const ABORT_LOOKS = 25;

  function abortedLater(signal, copied) {
    if (!(signal instanceof NativeSignal) || signal.aborted) return signal;
    const controller = new NativeController();
    let [seen, left] = [-1, ABORT_LOOKS];
    const look = () => {
      if (copied.chunks === seen || !left--) return apply(abort, controller, [signal.reason]);
      seen = copied.chunks;
      apply(later, window, [look, ABORT_LOOK_MS]);
    };
    apply(listen, signal, ["abort", () => apply(later, window, [look, ABORT_LOOK_MS])]);
    return controller.signal;
  }

  // Proxies, here and below, because a page can tell a wrapper function from native code by its name, length or text.
  window.fetch = new Proxy(window.fetch, {
    apply(target, self, args) {
      if (!shared.turn) return apply(target, self, args);
      const [input, init] = args;
      const isRequest = input instanceof NativeRequest;
      const method = String((init && init.method) || (isRequest && input.method) || "GET").toUpperCase();
      const url = absolute(isRequest ? input.url : String(input));
      const isWanted = wanted(STREAMED, url, method);
      const signal = isWanted && ((init && init.signal) || (isRequest && input.signal));
      const copied = { chunks: 0 };
      const result = apply(target, self, signal ? [input, { ...init, signal: abortedLater(signal, copied) }] : args);
      if (lostLogins.length) {
        const from = shared.turn;
        apply(then, result, [(response) => noteStatus(from, [url, response.url], response.status), () => {}]);
      }
      if (isWanted) {
        const [from, stream] = [shared.turn, ++shared.streams];
        apply(then, result, [
          (response) => { copyBody(from, stream, response, copied); },
          () => emit(from, KIND.BROKEN, stream, nothing),
        ]);
      }
      return result;
    },
  });

  // Each line of the console is a message to whoever drives the browser: a flood of them would hold up all its pages.
  // Our own frames use `debug` from above. What returns something to the page, as createTask does, is left alone.
  const CONSOLE_CALLS_PER_S = 20;
  const performance = window.performance;
  const { now } = performance;
  let [secondBegan, calls] = [-Infinity, 0];
  const limited = (target, self, args) => {
    const at = apply(now, performance, []);
    if (at - secondBegan >= 1000) [secondBegan, calls] = [at, 0];
    if (calls++ < CONSOLE_CALLS_PER_S) return apply(target, self, args);
  };
  for (const name of [
    "assert", "clear", "count", "countReset", "debug", "dir", "dirxml", "error", "group", "groupCollapsed", "groupEnd",
    "info", "log", "table", "timeEnd", "timeLog", "timeStamp", "trace", "warn",
  ]) {
    if (nativeConsole[name]) nativeConsole[name] = new Proxy(nativeConsole[name], { apply: limited });
  }

  // Half a surrogate pair at the end of a text is left for the next frame: it cannot be encoded as UTF-8.
  const whole = (text) => text.replace(/[\ud800-\udbff]$/, "");
  const requests = new WeakMap();
  const { get, set } = WeakMap.prototype;

  function copyRequest(xhr, from) {
    const stream = ++shared.streams;
    let opened = false;
    let sent = 0;
    const isText = () => xhr.responseType === "" || xhr.responseType === "text";
    const copyNew = () => {
      if (!opened) emit(from, KIND.OPEN, stream, encode(stringify({ status: xhr.status })));
      opened = true;
      if (!isText()) return;
      const text = whole(xhr.responseText);
      if (text.length > sent) emit(from, KIND.CHUNK, stream, encode(text.slice(sent)));
      sent = text.length;
    };
    // In the capturing phase, to run before the page's own listeners: those may abort the request at its end.
    apply(listen, xhr, ["readystatechange", () => { if (xhr.readyState >= 2 && xhr.status) copyNew(); }, true]);
    apply(listen, xhr, ["load", () => {
      if (xhr.responseType === "json") emit(from, KIND.CHUNK, stream, encode(stringify(xhr.response)));
      if (xhr.responseType === "arraybuffer") emit(from, KIND.CHUNK, stream, new Uint8Array(xhr.response));
      emit(from, KIND.END, stream, nothing);
    }]);
    for (const name of ["error", "abort", "timeout"]) {
      apply(listen, xhr, [name, () => emit(from, KIND.BROKEN, stream, nothing)]);
    }
  }

  const Xhr = XMLHttpRequest.prototype;
  Xhr.open = new Proxy(Xhr.open, {
    apply(target, self, args) {
      apply(set, requests, [self, { method: String(args[0]).toUpperCase(), url: absolute(String(args[1])) }]);
      return apply(target, self, args);
    },
  });
  Xhr.send = new Proxy(Xhr.send, {
    apply(target, self, args) {
      const request = apply(get, requests, [self]);
      if (shared.turn && request && lostLogins.length) {
        const from = shared.turn;
        apply(listen, self, ["load", () => noteStatus(from, [request.url, self.responseURL], self.status)]);
      }
      if (shared.turn && request && wanted(STREAMED, request.url, request.method)) copyRequest(self, shared.turn);
      return apply(target, self, args);
    },
  });

  // Binary frames may be Blobs, whose bytes are read asynchronously: a chain of promises keeps all frames in order.
  function copySocket(socket) {
    const stream = ++shared.streams;
    shared.copied.add(socket);
    let chain = null;
    const copy = async (from, data) => {
      await chain;
      const bytes = data instanceof Blob ? await apply(toBuffer, data, []) : data;
      emit(from, KIND.EVENT, stream, typeof bytes === "string" ? encode(bytes) : new Uint8Array(bytes));
    };
    apply(listen, socket, ["message", ({ data }) => {
      const { turn } = shared;
      if (!turn) return;
      if (chain || data instanceof Blob) chain = copy(turn, data);
      else emit(turn, KIND.EVENT, stream, typeof data === "string" ? encode(data) : new Uint8Array(data));
    }]);
    apply(listen, socket, ["close", () => {
      shared.copied.delete(socket);
      shared.ready.delete(socket);
      if (shared.turn) emit(shared.turn, KIND.END, stream, nothing);
    }]);
  }

  // Some clients begin with long polling and move to the WebSocket later: a frame that they send then tells.
  if (rule && rule.ready.length) {
    NativeSocket.prototype.send = new Proxy(socketSend, {
      apply(target, self, args) {
        const [data] = args;
        if (typeof data === "string" && rule.url.test(self.url) && rule.ready.some((pattern) => pattern.test(data))) {
          shared.ready.add(self);
        }
        return apply(target, self, args);
      },
    });
  }
  const isConnected = () =>
    !rule || !rule.ready.length || [...shared.ready].some((socket) => socket.readyState === NativeSocket.OPEN);

  window.WebSocket = new Proxy(NativeSocket, {
    construct(target, args, made) {
      const socket = construct(target, args, made);
      if (rule && rule.kind === "websocket" && rule.url.test(socket.url)) copySocket(socket);
      return socket;
    },
  });
  NativeSocket.prototype.constructor = window.WebSocket;

  function copyEvents(source, from) {
    const stream = ++shared.streams;
    emit(from, KIND.OPEN, stream, encode(stringify({ status: 200 })));
    for (const name of rule.events) {
      apply(listen, source, [name, (event) =>
        emit(from, KIND.EVENT, stream, encode(stringify({ event: event.type, data: event.data })))]);
    }
    apply(listen, source, ["error", () => {
      if (source.readyState === 2) emit(from, KIND.BROKEN, stream, nothing);
    }]);
  }

  window.EventSource = new Proxy(window.EventSource, {
    construct(target, args, made) {
      const source = construct(target, args, made);
      if (wanted(["sse"], source.url, "GET")) copyEvents(source, shared.turn);
      return source;
    },
  });

  // Open shadow roots make the look for elements longer: only where a page has some.
  for (const [made, name] of [[Element, "attachShadow"], [Element, "setHTMLUnsafe"], [ShadowRoot, "setHTMLUnsafe"]]) {
    const native = made.prototype[name];
    if (!native) continue;
    made.prototype[name] = new Proxy(native, {
      apply(target, self, args) {
        const result = apply(target, self, args);
        shared.rooted = true;
        shared.notice();
        return result;
      },
    });
  }
  if (!isTop) return;

  // HTML is sent whole each time, so it is looked at less often than text.
  const HTML_EVERY_MS = 100;
  const REASONING_EVERY_MS = 100;

  function watchDom(from, wish) {
    let [told, sawBusy, finished, timer, later] = ["", false, false, null, null];
    let [toldReasoning, toldAt] = ["", 0];
    const finish = () => {
      finished = true;
      emit(from, KIND.DOM_DONE, 0, nothing);
    };
    const tellText = (text) => {
      if (text === told) return;
      if (wish.read !== "markdown" && text.startsWith(told)) emit(from, KIND.DOM_ADD, 0, encode(text.slice(told.length)));
      else emit(from, KIND.DOM_SET, 0, encode(text));
      told = text;
    };
    // Sent whole each time, so less often than it changes, but before the answer's text.
    const tellReasoning = (text, isOver) => {
      if (text === toldReasoning || (!isOver && performance.now() - toldAt < REASONING_EVERY_MS)) return;
      emit(from, KIND.DOM_REASONING, 0, encode(text));
      [toldReasoning, toldAt] = [text, performance.now()];
    };
    const look = () => {
      if (finished || from !== shared.turn) return from.observer && from.observer.disconnect();
      const now = dom.answer(wish);
      watchAll();
      if (now.error !== null) emit(from, KIND.DOM_ERROR, 0, encode(now.error));
      if (now.reasoning) tellReasoning(whole(now.reasoning), Boolean(now.text) || now.done);
      if (now.text !== null && !now.loading) tellText(whole(now.text));
      sawBusy ||= now.busy;
      clearTimeout(timer);
      if (now.text === null || now.busy || (wish.done && !now.done)) return;
      const settle = wish.done || sawBusy ? wish.settle_ms : Math.max(wish.settle_ms, 1000);
      if (settle) timer = setTimeout(finish, settle);
      else finish();
    };
    const lookLater = () => { later ||= setTimeout(() => { later = null; look(); }, HTML_EVERY_MS); };
    const changed = wish.read === "markdown" ? lookLater : look;
    const watched = new WeakSet();
    const watchAll = () => {
      for (const place of dom.placesOf([wish.answer, wish.done, wish.busy, wish.loading, wish.error, wish.reasoning])) {
        if (watched.has(place)) continue;
        watched.add(place);
        from.observer.observe(place, { subtree: true, childList: true, characterData: true, attributes: true });
      }
    };
    from.observer = new MutationObserver(changed);
    // Of a shadow root or a frame that comes later no change of the page tells.
    shared.notice = () => { if (from === shared.turn) setTimeout(changed); };
    look();
  }

  function disarm() {
    const { turn } = shared;
    if (!turn) return;
    release(turn);
    if (turn.observer) turn.observer.disconnect();
    shared.turn = null;
    shared.notice = () => {};
  }

  const handle = {
    share(token) { return token === config.token ? shared : null; },
    mayHaveRoots,
    // Begin to copy under this nonce (16 ASCII characters), by socket or console. The first frame is ARMED.
    arm(nonce, wish, by) {
      disarm();
      const turn = { nonce: encode(nonce), sequence: 0, sink: sinkBy(by), readers: [], observer: null };
      shared.turn = turn;
      emit(turn, KIND.ARMED, 0, nothing);
      if (wish) watchDom(turn, wish);
      return true;
    },
    disarm,
    // Answer looks for this wish from now on, by a socket, under this nonce: at once, and whenever the child asks.
    answerLooks(token, nonce, wish) {
      if (token !== config.token) return;
      // Where others have asked over the socket, a question of theirs may still be under way.
      const known = sinkBy("socket");
      const sink = known.asked ? connect() : known;
      sink.asked = true;
      looks = { nonce: encode(nonce), number: 0, told: null, wish, sink };
      answerLook(sink);
    },
    // Whether nothing can come by this sink, if it was used.
    failed(by) { return Boolean(sinks[by] && sinks[by].dead); },
    // Whether a WebSocket by which answers come is open.
    listening() { return [...shared.copied].some((socket) => socket.readyState === NativeSocket.OPEN); },
    // Open the sink before it is needed. Returns whether the page's own WebSocket carries its traffic.
    prepare(by) {
      if (by) sinkBy(by);
      return isConnected();
    },
  };
  Object.defineProperty(window, config.name, { value: Object.freeze(handle) });
})();
