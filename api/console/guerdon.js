// A Guerdon client for browsers: keys that never leave the browser, signed operations, and receipts that are verified
// here. No library: WebCrypto signs and hashes, IndexedDB keeps. Copy this file, it depends on nothing else.
//
//   const ada = await Guerdon.open();            // makes a key and an account the first time, finds them afterwards
//   const paid = await ada.send("STAR", 1250, "mem_…");
//   paid.seq, paid.balance, paid.proven
//
// Pages of one origin share the account; they take turns (Web Locks), so that two tabs open one account and send one
// transfer at a time.
//
// Ed25519 in WebCrypto: Chrome 137, Firefox 129, Safari 17 or newer, on https and on localhost.
// The format of what is signed and verified here is in ledger/FORMAT.md.

const utf8 = new TextEncoder();
const text8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const MAX_RECEIPT_CHARACTERS = 128 * 1024;
const MAX_ENTRY_BYTES = 65_535;

// ---- Canonical JSON (RFC 8785), restricted to what Guerdon has: no fractions, no large integers, ASCII keys --------

/** The one way to write a value. Signatures are made over these bytes, so what could be written otherwise is refused. */
export function canonical(value) {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string" && value.isWellFormed()) return JSON.stringify(value);
  if (Number.isSafeInteger(value) && !Object.is(value, -0)) return String(value);
  if (Array.isArray(value)) return `[${Array.from(value, canonical).join(",")}]`;
  if (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
    const names = Object.keys(value).sort(); // ASCII: code units sort as bytes do
    if (!names.every((name) => /^[\x00-\x7f]*$/.test(name))) throw new TypeError("a name that is not ASCII");
    return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
  }
  throw new TypeError(`${typeof value} cannot be written: only text, safe integers, booleans, null, lists, objects`);
}

/** Read canonical JSON; anything that is not written back as it came is refused, and so are names given twice. */
export function parseCanonical(text) {
  const value = JSON.parse(text);
  if (canonical(value) !== text) throw new SyntaxError("not canonical JSON");
  return value;
}

// ---- Bytes and text ------------------------------------------------------------------------------------------------

const concat = (...parts) => new Uint8Array(parts.flatMap((part) => [...part]));
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const equal = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const toBase64url = (bytes) => toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** Base64 in its one spelling: with padding, without spaces and with no bits to spare. */
function fromBase64(text) {
  const plain = /^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.length % 4 === 0;
  const bytes = plain && Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  if (!plain || toBase64(bytes) !== text) throw new SyntaxError(`${text} is not base64`);
  return bytes;
}

/** An account's id: its role and the first 16 bytes of the id of the operation that opened it, in base32. */
export function accountId(prefix, opId) {
  const bits = Array.from(opId.slice(0, 16), (byte) => byte.toString(2).padStart(8, "0")).join("").padEnd(130, "0");
  return `${prefix}_${bits.match(/.{5}/g).map((five) => "abcdefghijklmnopqrstuvwxyz234567"[parseInt(five, 2)]).join("")}`;
}

/** Smallest units of a decimal amount, without ever making a float of it. */
export function parseAmount(text, scale) {
  const match = /^([0-9]+)(?:\.([0-9]+))?$/.exec(text.trim());
  const fraction = match?.[2] ?? "";
  const units = match && fraction.length <= scale ? BigInt(match[1] + fraction.padEnd(scale, "0")) : 0n;
  if (units < 1n || units > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new RangeError(`${text} is not an amount with at most ${scale} decimal places`);
  }
  return Number(units);
}

/** Decimal text of an amount in smallest units. */
export function formatAmount(units, scale) {
  const digits = String(Math.abs(units)).padStart(scale + 1, "0");
  const whole = `${units < 0 ? "−" : ""}${digits.slice(0, digits.length - scale)}`;
  return scale ? `${whole}.${digits.slice(-scale)}` : whole;
}

// ---- Receipts: an entry, the proof that it is in the ledger, and the log's signature (C2SP tlog-proof) ---------------

/** Read a log's verifier key, `name+<key id>+<base64>`: who signs checkpoints. Get it from elsewhere than the server. */
export async function parseLogKey(text) {
  const match = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text);
  if (!match) throw new SyntaxError("a verifier key is name+<8 hex digits>+<base64>");
  const [, name, id] = match;
  const bytes = fromBase64(match[3]);
  if (bytes.length !== 33 || bytes[0] !== 1) throw new SyntaxError("not an Ed25519 verifier key");
  if (hex((await sha256(concat(utf8.encode(`${name}\n`), bytes))).slice(0, 4)) !== id) {
    throw new SyntaxError("the key id does not fit the name and key");
  }
  return { text, name, id, publicKey: await crypto.subtle.importKey("raw", bytes.slice(1), "Ed25519", true, ["verify"]) };
}

/** Check a signed note's signatures by known keys; its text, and the names of those who signed (C2SP signed-note). */
async function verifyNote(note, logKeys) {
  const end = note.lastIndexOf("\n\n");
  if (end < 0 || !note.endsWith("\n") || /[\x00-\x09\x0b-\x1f]/.test(note) || !note.isWellFormed()) {
    throw new SyntaxError("a note is text, an empty line and signature lines");
  }
  const lines = note.slice(end + 2, -1).split("\n");
  if (lines.length > 64) throw new SyntaxError("too many signatures");
  const signatures = lines.map((line) => {
    const match = /^— ([^\s+]+) ([A-Za-z0-9+/=]+)$/.exec(line);
    const blob = match && fromBase64(match[2]);
    if (!blob || blob.length < 5) throw new SyntaxError(`${line} is not a signature line`);
    return { name: match[1], id: hex(blob.slice(0, 4)), signature: blob.slice(4) };
  });
  const text = note.slice(0, end + 1);
  const signers = [];
  for (const key of logKeys) {
    const found = signatures.find(({ name, id }) => name === key.name && id === key.id);
    if (!found) continue; // other keys may sign too; of them nothing is known
    if (!(await crypto.subtle.verify("Ed25519", key.publicKey, found.signature, utf8.encode(text)))) {
      throw new Error(`the signature of ${key.name} is not valid`);
    }
    signers.push(key.name);
  }
  return { text, signers };
}

/** Check a checkpoint: what the log commits to, signed by a known key of its own name. */
export async function verifyCheckpoint(note, logKeys) {
  const { text, signers } = await verifyNote(note, logKeys);
  const match = /^([^\n]+)\n(0|[1-9][0-9]{0,15})\n([^\n]+)\n$/.exec(text);
  const size = Number(match?.[2]);
  if (!match || !Number.isSafeInteger(size)) throw new SyntaxError("a checkpoint is origin, size and root");
  const root = fromBase64(match[3]);
  if (root.length !== 32) throw new SyntaxError("a root is 32 bytes");
  if (!signers.includes(match[1])) throw new Error(`no known key of ${match[1]} signed the checkpoint`);
  return { origin: match[1], size, root };
}

export const leafHash = (entry) => sha256(concat([0], entry));
const nodeHash = (left, right) => sha256(concat([1], left, right));

/** Walk from a leaf to the root (RFC 9162 section 2.1.3.2). Positions may be beyond 32 bits: no bit operations. */
export async function verifyInclusion(leaf, index, size, proof, root) {
  if (!(index >= 0 && index < size)) throw new RangeError(`there is no leaf ${index} in a tree of ${size}`);
  const half = (number) => Math.floor(number / 2);
  let [position, last, hash] = [index, size - 1, leaf];
  for (const sibling of proof) {
    if (last === 0) throw new Error("the proof is too long");
    if (position % 2 === 1 || position === last) {
      hash = await nodeHash(sibling, hash);
      while (position % 2 === 0 && position !== 0) [position, last] = [half(position), half(last)];
    } else {
      hash = await nodeHash(hash, sibling);
    }
    [position, last] = [half(position), half(last)];
  }
  if (last !== 0 || !equal(hash, root)) throw new Error("the proof leads to another root");
}

/** Verify a receipt with the log's keys and nothing else, no server and no network; what it proves, or an error. */
export async function verifyReceipt(receipt, logKeys) {
  if (receipt.length > MAX_RECEIPT_CHARACTERS) throw new RangeError("too long for a receipt");
  const end = receipt.indexOf("\n\n");
  const [version, extra, index, ...hashes] = receipt.slice(0, Math.max(end, 0)).split("\n");
  const seq = Number(/^index (0|[1-9][0-9]{0,15})$/.exec(index)?.[1] ?? NaN);
  if (version !== "c2sp.org/tlog-proof@v1" || !extra?.startsWith("extra ") || !Number.isSafeInteger(seq)) {
    throw new SyntaxError("this is not a receipt");
  }
  const proof = hashes.map(fromBase64);
  if (proof.length > 63 || proof.some((hash) => hash.length !== 32)) throw new SyntaxError("this is not a proof");
  const bytes = fromBase64(extra.slice("extra ".length));
  if (bytes.length > MAX_ENTRY_BYTES) throw new RangeError("too long for an entry");

  const checkpoint = await verifyCheckpoint(receipt.slice(end + 2), logKeys); // 1. the log's key signed a history
  const leaf = await leafHash(bytes); //                                          2. with so many entries and this root,
  await verifyInclusion(leaf, seq, checkpoint.size, proof, checkpoint.root); //   3. and this is entry number seq of it
  const entry = parseCanonical(text8.decode(bytes));
  if (Object.keys(entry).sort().join() !== "op,postings,prev,seq,sigs,time") throw new SyntaxError("this is no entry");
  if (entry.seq !== seq || entry.op.ledger !== checkpoint.origin) throw new Error("an entry of another place");
  return { seq, entry, leafHash: hex(leaf), origin: checkpoint.origin, size: checkpoint.size };
}

// ---- What the browser keeps ------------------------------------------------------------------------------------------

const database = () =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open("guerdon", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("kept");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function inStore(mode, act) {
  const opened = await database();
  try {
    const transaction = opened.transaction("kept", mode);
    const request = act(transaction.objectStore("kept"));
    return await new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    opened.close();
  }
}

const kept = (name) => inStore("readonly", (store) => store.get(name));
const keep = (name, value) => inStore("readwrite", (store) => store.put(value, name));
const forget = (name) => inStore("readwrite", (store) => store.delete(name));

/** Do something while no other page of this origin does it for the same account. It must not ask for its turn again. */
const inTurn = (name, act) => navigator.locks.request(`guerdon ${name}`, act);

// ---- The client ------------------------------------------------------------------------------------------------------

const USER_ERRORS = "userErrors { code message path retryable }";

/**
 * Why the ledger refused, or the server did; `code` is for programs, `message` for people. Three codes are this client's:
 *
 * - UNANSWERED: nobody knows whether the operation is recorded; the only safe thing to do is to submit the same again.
 * - UNPROVEN: it is said to be recorded, and what is given as a receipt does not prove it. See `trust()`.
 * - EARLIER_UNANSWERED: nothing was signed, because of an earlier transfer it is not known what became of it.
 *
 * `definite`: the server refused the request as it came, and no earlier attempt can have got further.
 */
export class GuerdonError extends Error {
  constructor(code, message, definite = false) {
    super(message);
    this.code = code;
    this.definite = definite;
  }
}

export class Guerdon {
  #token = null;
  #profile = null;

  constructor({ url, origin, logKeys, account, keys }) {
    Object.assign(this, { url, origin, logKeys, account, keys });
  }

  /**
   * The account of this browser; opened, with a new key, the first time.
   *
   * The private key is not extractable: scripts can sign with it, but nobody can read it, not even this page. That also
   * means that it is lost with the browser's data: add a second key of another device (`replace_keys`) before there is
   * much to lose. `logKeys` are the log's verifier keys; an app ships them with its code, both of them while the operator
   * replaces one. Without them, the key the server showed first is pinned, and another one is not believed later unless
   * you say so: see `trust()`.
   */
  static async open({ url = "/graphql", logKeys } = {}) {
    const profile = `account of ${new URL(url, location.href).href}`;
    return inTurn(profile, async () => {
      let found = await kept(profile);
      if (!found) {
        const { ledger } = await new Guerdon({ url }).#ask("{ ledger { origin logKey } }");
        const keys = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
        found = { origin: ledger.origin, logKeys: logKeys ?? [ledger.logKey], keys, opening: null };
      }
      const known = await Promise.all((logKeys ?? found.logKeys).map(parseLogKey));
      const client = new Guerdon({ url, origin: found.origin, logKeys: known, keys: found.keys });
      client.#profile = profile;
      if (!found.opening) {
        // Kept before it is sent: the same document, sent again after a crash, opens the same account.
        found.opening = await client.sign("open_account", { keys: [await client.publicKey()], role: "member" });
        await keep(profile, found);
      }
      if (!found.account) {
        await client.#submit(found.opening);
        found.account = accountId("mem", found.opening.id);
        await keep(profile, found);
      }
      client.account = found.account;
      return client;
    });
  }

  /**
   * Believe these verifier keys of the log, and no others, from now on and at the next visit. When the operator replaces
   * the log's key, receipts are signed by the old key and the new one for a while, and by the new one alone after that:
   * then they are UNPROVEN until the new key is given here. Get it where you would get it for an audit, from the
   * operator's announcement and never from this server: whoever names the key decides what is proven.
   */
  async trust(...logKeys) {
    const known = await Promise.all(logKeys.map(parseLogKey));
    if (!known.length || known.some(({ name }) => name !== this.origin)) {
      throw new RangeError(`a key of ${this.origin} is needed, not of ${known.map(({ name }) => name).join(", ") || "none"}`);
    }
    this.logKeys = known;
    if (!this.#profile) return; // made without open(): nothing of it is kept
    await inTurn(this.#profile, async () => keep(this.#profile, { ...(await kept(this.#profile)), logKeys }));
  }

  /** The public half of this browser's key, as documents write it. */
  async publicKey() {
    return toBase64url(new Uint8Array(await crypto.subtle.exportKey("raw", this.keys.publicKey)));
  }

  /** A signed operation: the exact text to submit, and the id it has before anybody has seen it. */
  async sign(kind, fields) {
    const operation = {
      guerdon: 1,
      ledger: this.origin,
      kind,
      at: new Date().toISOString(),
      nonce: toBase64url(crypto.getRandomValues(new Uint8Array(16))),
      ...(this.account ? { actor: this.account } : {}),
      ...fields,
    };
    const op = canonical(operation);
    const sigs = [{ key: await this.publicKey(), sig: await this.#signature(`guerdon operation v1\n${op}`) }];
    return { op, text: `{"op":${op},"sigs":${canonical(sigs)}}`, id: await sha256(utf8.encode(op)) };
  }

  async #signature(message) {
    const { privateKey } = this.keys;
    return toBase64url(new Uint8Array(await crypto.subtle.sign("Ed25519", privateKey, utf8.encode(message))));
  }

  get #slot() {
    return `unanswered of ${this.account}`;
  }

  /**
   * Transfer points, in the asset's smallest unit; after ten minutes without being recorded it never will be. While it is
   * not known what became of an earlier transfer, in whichever tab, nothing is signed: see `unanswered()`.
   */
  async send(asset, amount, to) {
    return inTurn(this.account, async () => {
      if (await this.unanswered()) {
        throw new GuerdonError("EARLIER_UNANSWERED", "it is not known yet whether the last transfer is recorded: send that one again");
      }
      const expires = new Date(Date.now() + 600_000).toISOString();
      const signed = await this.sign("transfer", { asset, expires, recipients: [{ amount, to }] });
      await keep(this.#slot, signed); // until there is an answer, even if this page is closed
      return this.#submit(signed);
    });
  }

  /** The operation that was sent last, if it is not known whether it is recorded: submit() it before sending another. */
  async unanswered() {
    return kept(this.#slot);
  }

  /**
   * Submit a signed operation, and verify the receipt. Without an answer the same is sent again: the ledger knows an
   * operation by its id and records it once, so this can never pay twice. Signing anew could.
   */
  async submit(signed) {
    return inTurn(this.account, () => this.#submit(signed));
  }

  async #submit(signed) {
    const unknown = (why) => new GuerdonError("UNANSWERED", `it is not known whether this is recorded (${why})`);
    const data = await this.#ask(
      `mutation Submit($operation: SignedOperation!) { operationSubmit(input: { operation: $operation }) {
        entry { seq hash } replayed balance receipt ${USER_ERRORS}
      } }`,
      { operation: signed.text },
    ).catch(async (error) => {
      if (!error.definite) throw unknown(error.message);
      await this.#answered(signed);
      throw error;
    });
    const answer = data?.operationSubmit;
    const refusal = answer?.userErrors?.[0];
    if (!answer?.entry && !refusal) throw unknown("the server answers, but not to this");
    if (!answer.entry) {
      // What may pass later is no answer: UNAVAILABLE is also said when the database was lost while recording.
      if (refusal.retryable) throw unknown(`${refusal.code}: ${refusal.message}`);
      await this.#answered(signed);
      throw new GuerdonError(refusal.code, refusal.message);
    }
    const proven = await verifyReceipt(answer.receipt ?? "", this.logKeys).catch((error) => {
      throw new GuerdonError("UNPROVEN", error.message);
    });
    if (canonical(proven.entry.op) !== signed.op) throw new GuerdonError("UNPROVEN", "a receipt of another operation");
    await this.#answered(signed); // only now: what is said to be recorded, but not proven, may be asked for again
    return { ...proven, balance: answer.balance, replayed: answer.replayed, receipt: answer.receipt };
  }

  /** It is known what became of this operation; of another one that is waiting, it is not. */
  async #answered(signed) {
    if (this.account && (await this.unanswered())?.op === signed.op) await forget(this.#slot);
  }

  /** Balances, each with its asset's name and scale. */
  async balances() {
    const { viewer } = await this.read("{ viewer { balances { asset total spendable lots { lastDay points } } } }");
    const ids = viewer.balances.map(({ asset }) => `ast_${asset}`);
    const { nodes } = await this.#ask("query Assets($ids: [ID!]!) { nodes(ids: $ids) { ... on Asset { name scale } } }", { ids });
    return viewer.balances.map((balance, i) => ({ ...balance, ...nodes[i] }));
  }

  /** The newest movements in an asset. */
  async history(asset, last = 20) {
    const { statement } = await this.read(
      `query Statement($account: ID!, $asset: String!, $last: Int) {
        statement(account: $account, asset: $asset, last: $last) { nodes { entryId kind time amount balance } }
      }`,
      { account: this.account, asset, last },
    );
    return statement.nodes.reverse();
  }

  /** Ask anything as this account: a session is opened when there is none, and again when it has ended. */
  async read(query, variables) {
    if (this.#token) {
      try {
        return await this.#ask(query, variables, this.#token);
      } catch (error) {
        if (error.code !== "UNAUTHENTICATED") throw error;
      }
    }
    const { sessionChallenge } = await this.#ask(
      "query Challenge($account: ID!) { sessionChallenge(account: $account) { challenge } }",
      { account: this.account },
    );
    const { challenge } = sessionChallenge;
    const sig = await this.#signature(`guerdon session v1\n${challenge}`);
    const input = { account: this.account, challenge, signatures: [{ key: await this.publicKey(), sig }] };
    const { sessionOpen } = await this.#ask(
      `mutation Session($input: SessionOpenInput!) { sessionOpen(input: $input) { token ${USER_ERRORS} } }`,
      { input },
    );
    if (!sessionOpen.token) throw new GuerdonError(sessionOpen.userErrors[0].code, sessionOpen.userErrors[0].message);
    this.#token = sessionOpen.token;
    return this.#ask(query, variables, this.#token);
  }

  /** One request; asked again when there is no connection or the server is busy, which harms nothing: see submit(). */
  async #ask(query, variables = {}, token = null, attempts = 5) {
    const headers = { "Content-Type": "application/json", Accept: "application/graphql-response+json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const body = JSON.stringify({ query, variables });
    let lost = false; // whether an attempt may have arrived, and its answer did not
    for (let attempt = 1; ; attempt += 1) {
      let wait = 250 * 2 ** attempt;
      try {
        const response = await fetch(this.url, { method: "POST", headers, body });
        const { status } = response;
        if (![429, 502, 503, 504].includes(status) || attempt === attempts) {
          const { data, errors } = await response.json();
          const refused = status >= 400 && status < 500 && status !== 408 && status !== 429;
          if (errors) throw new GuerdonError(errors[0].extensions?.code, errors[0].message, refused && !lost);
          return data;
        }
        lost ||= status !== 429; // which is said before anything is done; the others are said by what is in between
        wait = Math.max(wait, 1000 * Math.min(Number(response.headers.get("Retry-After")) || 0, 60));
      } catch (error) {
        if (error instanceof GuerdonError || attempt === attempts) throw error;
        lost = true;
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}
