// Where a login's token is kept, by the kind of login. Each has read() and write(token); null removes it.
const NAME = "demo_token";

function webStorage(storage) {
  return {
    read: async () => storage.getItem(NAME),
    write: async (token) => (token === null ? storage.removeItem(NAME) : storage.setItem(NAME, token)),
  };
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function tokens(mode, use) {
  const opening = indexedDB.open("demo", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("tokens", { keyPath: "id" });
  const database = await done(opening);
  try {
    return await done(use(database.transaction("tokens", mode).objectStore("tokens")));
  } finally {
    database.close();
  }
}

const KEEPERS = {
  token: webStorage(localStorage),
  tab: webStorage(sessionStorage),
  database: {
    read: async () => (await tokens("readonly", (store) => store.get("me")))?.token ?? null,
    write: (token) => tokens("readwrite", (store) => (token === null ? store.delete("me") : store.put({ id: "me", token }))),
  },
};

// Returns the kind and the token, both null if there is none; `any` looks in every storage.
export async function readToken(variant) {
  for (const kind of variant === "any" ? Object.keys(KEEPERS) : [variant]) {
    const token = await KEEPERS[kind]?.read();
    if (token) return { kind, token };
  }
  return { kind: null, token: null };
}

export async function writeToken(kind, token) {
  await KEEPERS[kind]?.write(token);
}

export function isKeptByScript(variant) {
  return variant === "any" || variant in KEEPERS;
}
