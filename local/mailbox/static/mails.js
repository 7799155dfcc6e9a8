// Shows new mails in the list as they come: after each event of the server the page is fetched again, and what is new in
// it is inserted, so that focus, selection and scroll position stay as they are.
"use strict";

const list = document.querySelector("[data-mails]");
const live = document.querySelector("[data-live]");
const state = document.querySelector("[data-live-state]");
const news = document.querySelector("[data-news]");
const title = document.title;

let events = null;
let unseen = 0;
let updating = false;
let changed = false;

// Shows if new mails appear by themselves now.
function showState(isLive) {
  live.hidden = false;
  live.classList.toggle("stale", !isLive);
  state.textContent = isLive ? "Live" : "No connection to the mailbox";
}

// Makes the list equal to that of another page: mails that are in both stay in place. Returns the new mails' elements.
function updateList(next) {
  const known = new Map([...list.children].map((mail) => [mail.dataset.key, mail]));
  const added = [];
  [...next.querySelector("[data-mails]").children].forEach((mail, at) => {
    const existing = known.get(mail.dataset.key);
    if (!existing) added.push(mail);
    const shown = existing ?? document.adoptNode(mail);
    if (list.children[at] !== shown) list.insertBefore(shown, list.children[at] ?? null);
    known.delete(mail.dataset.key);
  });
  for (const gone of known.values()) gone.remove();
  for (const part of document.querySelectorAll("[data-part]")) {
    const nextPart = next.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!part.isEqualNode(nextPart)) part.replaceWith(document.adoptNode(nextPart));
  }
  return added;
}

// Marks the new mails, and says for people who cannot see them that they came.
function announce(added) {
  for (const mail of added) mail.classList.add("new");
  news.textContent = added.map((mail) => `New mail: ${mail.querySelector(".subject").textContent}`).join(". ");
  unseen = document.hasFocus() ? 0 : unseen + added.length;
  document.title = unseen ? `(${unseen}) ${title}` : title;
}

// Fetches the page and updates the list. A call during another one makes that one fetch once more.
async function update() {
  changed = true;
  if (updating) return;
  updating = true;
  try {
    while (changed) {
      changed = false;
      const response = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!response.ok) throw new Error(response.statusText);
      const added = updateList(new DOMParser().parseFromString(await response.text(), "text/html"));
      if (added.length) announce(added);
    }
    showState(true);
  } catch {
    showState(false);
  } finally {
    updating = false;
  }
}

// Listens for new mails. Only a visible page does: a browser has few connections to one server.
function listen() {
  events?.close();
  events = null;
  if (document.hidden) return;
  events = new EventSource("/events");
  events.addEventListener("open", update); // also after a lost connection: mails may have come meanwhile
  events.addEventListener("message", update);
  events.addEventListener("error", () => showState(false));
}

addEventListener("focus", () => {
  unseen = 0;
  document.title = title;
});
document.addEventListener("visibilitychange", listen);
addEventListener("pageshow", (event) => event.persisted && listen());
listen();
