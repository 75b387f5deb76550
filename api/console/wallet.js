// The example wallet at /wallet: what a page does with guerdon.js. All text from outside goes in as text, never as HTML.
import { Guerdon, GuerdonError, formatAmount, parseAmount } from "./guerdon.js";

const $ = (id) => document.getElementById(id);

function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

/** Run something a person asked for; whatever goes wrong is said beside the form. */
async function act(button, work) {
  button.disabled = true;
  $("problem").textContent = "";
  try {
    await work();
  } catch (error) {
    $("problem").textContent = error instanceof GuerdonError ? `${error.code}: ${error.message}` : error.message;
  } finally {
    button.disabled = false;
  }
}

let wallet;
let balances = [];

/** While it is not known what became of the last transfer, the button sends that one again and nothing else. */
async function showUnanswered() {
  const unanswered = await wallet.unanswered();
  $("fields").disabled = Boolean(unanswered);
  $("go").textContent = unanswered ? "Send the last one again" : "Sign and send";
  return unanswered;
}

async function refresh() {
  balances = await wallet.balances();
  const lines = balances.map((balance) => {
    const line = element("li", formatAmount(balance.spendable, balance.scale));
    line.append(element("small", `${balance.asset} · ${balance.name}`));
    line.dataset.asset = balance.asset;
    return line;
  });
  $("balances").replaceChildren(...(lines.length ? lines : [element("li", "None yet.", "quiet")]));
  const select = $("send").elements.asset;
  const chosen = select.value;
  select.replaceChildren(...balances.map(({ asset }) => new Option(asset)));
  if (balances.some(({ asset }) => asset === chosen)) select.value = chosen;
  await showHistory();
}

async function showHistory() {
  const histories = await Promise.all(
    balances.map(async ({ asset, scale }) => (await wallet.history(asset)).map((line) => ({ ...line, asset, scale }))),
  );
  const newest = histories.flat().sort((a, b) => b.time.localeCompare(a.time)).slice(0, 20);
  $("history").replaceChildren(
    ...newest.map(({ time, kind, amount, asset, scale }) => {
      const line = element("li", `${new Date(time).toLocaleString()} · ${kind.toLowerCase()}`);
      line.append(element("span", `${amount > 0 ? "+" : ""}${formatAmount(amount, scale)} ${asset}`));
      return line;
    }),
  );
}

/** What was just verified, in the order in which guerdon.js did. */
function showProof(paid) {
  const checks = [
    `The log's key signed a history of ${paid.size} entries of ${paid.origin}.`,
    `Entry ${paid.seq} is in it: the inclusion proof leads from its leaf hash to the signed root.`,
    `The entry holds exactly the operation that this browser signed.`,
  ];
  $("checks").replaceChildren(...checks.map((check) => element("li", check)));
  $("leaf-hash").textContent = paid.leafHash;
  URL.revokeObjectURL($("receipt").href);
  $("receipt").href = URL.createObjectURL(new Blob([paid.receipt], { type: "text/plain" }));
  $("proof").dataset.seq = paid.seq;
  $("proof").hidden = false;
}

$("refresh").addEventListener("click", (event) => act(event.currentTarget, refresh));

$("send").addEventListener("submit", (event) => {
  event.preventDefault();
  const { amount, asset, to } = event.currentTarget.elements;
  act($("go"), async () => {
    try {
      const unanswered = await wallet.unanswered();
      if (unanswered) {
        showProof(await wallet.submit(unanswered));
      } else {
        const { scale } = balances.find((balance) => balance.asset === asset.value);
        showProof(await wallet.send(asset.value, parseAmount(amount.value, scale), to.value.trim()));
      }
      amount.value = "";
    } finally {
      await showUnanswered();
    }
    await refresh();
  });
});

const showLogKeys = () => ($("log-key").textContent = wallet.logKeys.map(({ text }) => text).join(", "));

$("trust").addEventListener("submit", (event) => {
  event.preventDefault();
  const { keys } = event.currentTarget.elements;
  act($("trust-go"), async () => {
    await wallet.trust(...keys.value.trim().split(/\s+/));
    keys.value = "";
    showLogKeys();
  });
});

act($("refresh"), async () => {
  wallet = await Guerdon.open();
  $("account").textContent = wallet.account;
  $("origin").textContent = wallet.origin;
  showLogKeys();
  await showUnanswered();
  await refresh();
  document.body.dataset.ready = "true";
});
