// Reads the IndexedDB and the sessionStorage of a document's origin, in the form that Playwright's storage_state has
// (packages/injected/src/storageScript.ts, 1.62). Its own reader leaves each database open in the page, which keeps the
// page from deleting it; reads 0, "" and null as nothing; and makes an empty object of what it cannot hold.
async ({ openS, maxRecords, maxCharacters }) => {
  class Unkeepable extends Error {}
  const MAX_DEPTH = 100; // what reads the file has a limit of its own

  const answerOf = (request, onBlocked) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
      if (onBlocked) request.onblocked = () => reject(new Error("blocked"));
    });

  const isPlain = (value) => Object.prototype.toString.call(value) === "[object Object]"
    && [Object.prototype, null].includes(Object.getPrototypeOf(value));

  // Whether JSON gives the same value back.
  const isJson = (value, above = []) => {
    if (value === null || typeof value === "string" || typeof value === "boolean") return true;
    if (typeof value === "number") return Number.isFinite(value) && !Object.is(value, -0);
    if (typeof value !== "object" || above.length > MAX_DEPTH || above.includes(value)) return false;
    if (!Array.isArray(value) && !isPlain(value)) return false;
    if (Array.isArray(value) && Object.keys(value).length !== value.length) return false;
    return Object.keys(value).every((key) => key !== "toJSON" && key !== "__proto__" && isJson(value[key], [...above, value]));
  };

  const base64 = (bytes) => {
    let text = "";
    for (let start = 0; start < bytes.length; start += 0x8000)
      text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
    return btoa(text);
  };

  const TYPED = { Int8Array: "i8", Uint8Array: "ui8", Uint8ClampedArray: "ui8c", Int16Array: "i16", Uint16Array: "ui16",
    Int32Array: "i32", Uint32Array: "ui32", Float32Array: "f32", Float64Array: "f64", BigInt64Array: "bi64",
    BigUint64Array: "bui64" };

  const encode = (value, seen = new Map(), depth = 0) => {
    if (value === undefined) return { v: "undefined" };
    if (value === null) return { v: "null" };
    if (typeof value === "bigint") return { bi: value.toString() };
    if (typeof value === "number") {
      if (Object.is(value, -0)) return { v: "-0" };
      return Number.isFinite(value) ? value : { v: String(value) };
    }
    if (typeof value === "string" || typeof value === "boolean") return value;
    const name = Object.prototype.toString.call(value).slice(8, -1);
    if (name === "Date" && !Number.isNaN(value.getTime())) return { d: value.toJSON() };
    if (name === "RegExp") return { r: { p: value.source, f: value.flags } };
    if (name === "ArrayBuffer") return { ab: { b: base64(new Uint8Array(value)) } };
    if (name in TYPED)
      return { ta: { b: base64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)), k: TYPED[name] } };
    if (seen.has(value)) return { ref: seen.get(value) };
    // Blob, CryptoKey, Map, Set and others
    if (depth > MAX_DEPTH || (!Array.isArray(value) && !isPlain(value))) throw new Unkeepable(name);
    const id = seen.size + 1;
    seen.set(value, id);
    if (Array.isArray(value)) return { a: Array.from(value, (item) => encode(item, seen, depth + 1)), id };
    return { o: Object.keys(value).map((k) => ({ k, v: encode(value[k], seen, depth + 1) })), id };
  };

  // Playwright takes a value that is false in JavaScript for none, but not its encoded form.
  const kept = (name, value) => (value && isJson(value) ? { [name]: value } : { [`${name}Encoded`]: encode(value) });

  const open = async ({ name, version }) => {
    const opening = indexedDB.open(name, version);
    // The page has deleted it since it was listed: it must not come back.
    opening.onupgradeneeded = () => opening.transaction.abort();
    let late = false;
    opening.addEventListener("success", () => { if (late) opening.result.close(); });
    const timer = new Promise((_, reject) => setTimeout(() => { late = true; reject(new Error("slow")); }, openS * 1000));
    const database = await Promise.race([answerOf(opening, true), timer]);
    database.onversionchange = () => database.close();
    return database;
  };

  const readStore = async (store, result) => {
    const [keys, values] = await Promise.all([answerOf(store.getAllKeys()), answerOf(store.getAll())]);
    const records = [];
    keys.forEach((key, number) => {
      try {
        records.push({ ...(store.keyPath === null ? kept("key", key) : {}), ...kept("value", values[number]) });
      } catch (error) {
        if (!(error instanceof Unkeepable)) throw error;
        result.leftOut += 1;
      }
    });
    const path = ({ keyPath }) => (Array.isArray(keyPath) ? { keyPathArray: keyPath } : keyPath === null ? {} : { keyPath });
    const indexes = [...store.indexNames].map((name) => store.index(name)).map((index) =>
      ({ name: index.name, ...path(index), multiEntry: index.multiEntry, unique: index.unique }));
    return { name: store.name, records, indexes, autoIncrement: store.autoIncrement, ...path(store) };
  };

  const readDatabase = async (info, result) => {
    const database = await open(info);
    try {
      const names = [...database.objectStoreNames];
      if (!names.length) return { name: info.name, version: info.version, stores: [] };
      const transaction = database.transaction(names, "readonly");
      const stores = names.map((name) => transaction.objectStore(name));
      const counts = await Promise.all(stores.map((store) => answerOf(store.count())));
      if (counts.reduce((sum, count) => sum + count, 0) > maxRecords) throw new Error("large");
      const read = { name: info.name, version: info.version, stores: await Promise.all(stores.map((store) => readStore(store, result))) };
      if (JSON.stringify(read).length > maxCharacters) throw new Error("large");
      return read;
    } finally {
      database.close();
    }
  };

  const result = { origin: location.origin, sessionStorage: null, databases: null, unread: [], leftOut: 0 };
  try {
    result.sessionStorage = Object.keys(sessionStorage).map((name) => ({ name, value: sessionStorage.getItem(name) }));
  } catch { /* a document without storage, such as a sandboxed one */ }
  try {
    const listed = (await indexedDB.databases()).filter(({ name, version }) => name && version);
    result.databases = [];
    await Promise.all(listed.map(async (info) => {
      try {
        result.databases.push(await readDatabase(info, result));
      } catch (error) {
        if (error?.name !== "AbortError") result.unread.push(info.name);
      }
    }));
    result.databases.sort((one, other) => (one.name < other.name ? -1 : 1));
  } catch { /* the same */ }
  return JSON.stringify(result);
}
