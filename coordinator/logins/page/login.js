// Shows the browser's picture and sends what is done to it, in order. Nothing is kept: neither pictures nor keys.
const base = location.pathname;
const find = (id) => document.getElementById(id);
const [screen, text, note, pasted] = ["screen", "text", "note", "pasted"].map(find);
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const coarse = matchMedia("(pointer: coarse)");
const LIVE = ["opening", "open", "trying"];
const WORDS = { opening: "The browser opens the page.", trying: "Logged in. The login is being tried in a new browser." };
const END = { saved: "Saved", failed: "Failed", cancelled: "Cancelled", expired: "Over" };
const RETRY_MS = 1000;

function phase(name) { document.body.dataset.phase = name; }

function over(message) {
  phase("over");
  note.textContent = "";
  find("outcome").textContent = message;
}

async function post(what, body) {
  return fetch(`${base}/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
}

async function said(response) {
  try { return (await response.json()).error.message; } catch { return `The server answers ${response.status}.`; }
}

// Pictures

let page = { width: 0, height: 0 };
let picture = 0;
let number = -1;

function show(state) {
  const opens = state.phase === "open" && page.phase !== "open";
  page = state;
  number = state.number;
  if (LIVE.includes(state.phase)) {
    phase("live");
    find("host").textContent = state.host;
    find("title").textContent = state.title;
    note.textContent = state.detail ?? WORDS[state.phase] ?? "";
    if (opens) { room = { width: 0, height: 0 }; fit(); } // what was sent to a browser that was starting is lost
    return true;
  }
  over(`${END[state.phase]}: ${state.detail ?? ""}`);
  find("download").href = `${base}/profile`;
  find("download").hidden = !(state.phase === "saved" && state.detail.includes("Download"));
  return false;
}

async function draw(blob) {
  const drawn = await createImageBitmap(blob);
  if (screen.width !== drawn.width || screen.height !== drawn.height) {
    screen.width = drawn.width;
    screen.height = drawn.height;
  }
  screen.getContext("2d").drawImage(drawn, 0, 0);
  drawn.close();
  screen.dataset.drawn = Number(screen.dataset.drawn ?? 0) + 1; // for who waits for the next one
}

async function follow() {
  for (;;) {
    let response;
    try {
      response = await fetch(`${base}/picture?picture=${picture}&state=${number}`);
    } catch {
      note.textContent = "The connection is lost; trying again.";
      await pause(RETRY_MS);
      continue;
    }
    if (response.status === 401) { phase("start"); return; }
    if (response.status >= 500) { await pause(RETRY_MS); continue; }
    if (!response.ok) { over(await said(response)); return; }
    const goesOn = show(JSON.parse(response.headers.get("x-login-state")));
    if (response.status === 200) {
      await draw(await response.blob());
      picture = response.headers.get("x-login-picture");
    }
    if (!goesOn) return;
  }
}

// Input: one POST after the other, each with all that has come meanwhile

const queue = [];
let sending = false;

async function send(...events) {
  for (const event of events) {
    if (event.kind === "move" && queue.at(-1)?.kind === "move") queue.pop();
    queue.push(event);
  }
  if (sending) return;
  sending = true;
  while (queue.length) {
    // Not sent again where that fails: a text that is entered twice is worse than one that is missing.
    try {
      const response = await post("input", JSON.stringify(queue.splice(0, 200)));
      if (!response.ok) note.textContent = await said(response);
    } catch {
      note.textContent = "The last input was lost: there is no connection.";
    }
  }
  sending = false;
}

function place(event) {
  const box = screen.getBoundingClientRect();
  const along = (at, start, size, full) => Math.min(Math.max((at - start) / size, 0), 1) * full;
  return {
    x: along(event.clientX, box.left, box.width, page.width),
    y: along(event.clientY, box.top, box.height, page.height),
  };
}

// The browser takes the room that there is. A virtual keyboard takes room away for a while only.
let room = { width: 0, height: 0 };
function fit() {
  const { clientWidth: width, clientHeight: height } = find("stage");
  if (!width || !height || (width === room.width && (height === room.height || coarse.matches))) return;
  room = { width, height };
  const within = (size) => Math.round(Math.min(Math.max(size, 280), 1920));
  send({ kind: "size", width: within(width), height: within(height) });
}
let fitting = 0;
new ResizeObserver(() => { clearTimeout(fitting); fitting = setTimeout(fit, 100); }).observe(find("stage"));

// Mouse and touch

const BUTTONS = ["left", "middle", "right"];
const FAR = 8; // pixels that a finger moves before it scrolls
const AGAIN_MS = 400;
let last = { at: 0, x: 0, y: 0, count: 0 };
let finger = null;

function count(event) {
  const again = event.timeStamp - last.at < AGAIN_MS && Math.hypot(event.clientX - last.x, event.clientY - last.y) < FAR;
  last = { at: event.timeStamp, x: event.clientX, y: event.clientY, count: again ? last.count % 3 + 1 : 1 };
  return last.count;
}

function focusText(event) {
  // Where the finger is, so that the phone moves this place above its keyboard.
  const box = find("stage").getBoundingClientRect();
  text.style.left = `${event.clientX - box.left}px`;
  text.style.top = `${Math.min(event.clientY - box.top, box.height - 20)}px`;
  empty();
  text.focus({ preventScroll: event.pointerType === "mouse" });
}

screen.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  if (event.pointerType === "touch") {
    finger = finger || !event.isPrimary ? null : { x: event.clientX, y: event.clientY, scrolls: false };
    return;
  }
  screen.setPointerCapture(event.pointerId);
  focusText(event);
  send({ kind: "down", ...place(event), button: BUTTONS[event.button] ?? "left", count: count(event) });
});
screen.addEventListener("pointermove", (event) => {
  if (event.pointerType !== "touch") { send({ kind: "move", ...place(event) }); return; }
  if (!finger || !event.isPrimary) return;
  const dx = finger.x - event.clientX;
  const dy = finger.y - event.clientY;
  if (!finger.scrolls && Math.hypot(dx, dy) < FAR) return;
  const scale = page.width / screen.getBoundingClientRect().width;
  finger = { x: event.clientX, y: event.clientY, scrolls: true };
  send({ kind: "wheel", ...place(event), dx: dx * scale, dy: dy * scale });
});
screen.addEventListener("pointerup", (event) => {
  if (event.pointerType !== "touch") {
    send({ kind: "up", ...place(event), button: BUTTONS[event.button] ?? "left", count: last.count || 1 });
    return;
  }
  if (finger && !finger.scrolls && event.isPrimary) {
    const at = place(event);
    const times = count(event);
    send({ kind: "down", ...at, count: times }, { kind: "up", ...at, count: times });
    if (find("keys").ariaPressed === "true") focusText(event);
  }
  finger = null;
});
screen.addEventListener("pointercancel", () => { finger = null; });
screen.addEventListener("contextmenu", (event) => event.preventDefault());
screen.addEventListener("wheel", (event) => {
  event.preventDefault();
  const unit = [1, 16, page.height][event.deltaMode];
  send({ kind: "wheel", ...place(event), dx: event.deltaX * unit, dy: event.deltaY * unit });
}, { passive: false });

// Keyboard. What a keyboard or an input method writes is told by how the field's text changes: virtual keyboards name no
// keys. The field begins with something, so that there is always something to delete.

const PAD = "_".repeat(20);
const SHORTCUTS = ["a", "x", "y", "z"];
const KEYS = [
  "Enter", "Tab", "Backspace", "Delete", "Escape", "Home", "End", "PageUp", "PageDown",
  "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown",
];
let before = PAD;

function empty() {
  text.value = PAD;
  text.setSelectionRange(PAD.length, PAD.length);
  before = PAD;
}

function changed() {
  const now = text.value;
  let same = 0;
  while (same < before.length && same < now.length && before[same] === now[same]) same += 1;
  if (same && /[\ud800-\udbff]/.test(before[same - 1])) same -= 1; // no half of a character
  const deleted = [...before.slice(same)].length;
  const written = now.slice(same);
  before = now;
  const events = Array.from({ length: deleted }, () => ({ kind: "key", key: "Backspace" }));
  if (written === "\n") events.push({ kind: "key", key: "Enter" });
  else if (written) events.push({ kind: "text", text: written });
  send(...events);
  if (now.length < PAD.length) empty();
}

text.addEventListener("input", (event) => {
  // An input method on a desk shows its own draft; a phone's keyboard calls every word one until it is finished.
  if (!event.isComposing || coarse.matches) changed();
});
text.addEventListener("compositionend", changed);
text.addEventListener("blur", empty);
text.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return;
  const command = event.ctrlKey || event.metaKey;
  const key = command ? event.key.toLowerCase() : event.key;
  const named = KEYS.find((name) => name === event.key) ?? (command && SHORTCUTS.includes(key) ? key : null);
  if (!named) return;
  event.preventDefault();
  const held = [command && "Control", event.altKey && "Alt", event.shiftKey && "Shift"].filter(Boolean);
  send({ kind: "key", key: named, with: held });
  empty();
});

// Buttons

find("keys").addEventListener("click", () => {
  const on = find("keys").ariaPressed !== "true";
  find("keys").ariaPressed = String(on);
  if (on) { empty(); text.focus(); } else text.blur();
});
find("paste").addEventListener("click", () => { find("box").showModal(); pasted.focus(); });
find("send").addEventListener("click", () => {
  const value = pasted.value.replace(/[\r\n]+$/, "");
  if (value) send({ kind: "text", text: value });
  find("box").close();
});
find("close").addEventListener("click", () => find("box").close());
find("box").addEventListener("close", () => { pasted.value = ""; });
find("back").addEventListener("click", () => send({ kind: "back" }));
find("done").addEventListener("click", () => post("done"));
find("cancel").addEventListener("click", () => post("cancel"));
find("open").addEventListener("click", async () => {
  find("open").disabled = true;
  try {
    const response = await post("open");
    if (response.ok) follow(); else over(await said(response));
  } catch {
    note.textContent = "The server cannot be reached.";
    find("open").disabled = false;
  }
});

empty();
follow();
