// Updates a page regularly: fetches it again and changes only the nodes that differ, so that focus, selection, scroll
// positions and opened details stay as they are. A button pauses the updates; a hidden page is not updated.
"use strict";

const controls = document.querySelector("[data-live-controls]");
const state = controls.querySelector("[data-live-state]");
const button = controls.querySelector("[data-live-button]");
const everyMs = 1000 * Number(controls.dataset.every);
const pausedKey = "towerwatch-paused";

let paused = sessionStorage.getItem(pausedKey) === "yes";
let fetchedAt = new Date();

// Returns true if `next` is a newer version of the node `now`, false if it is another node.
function isSameNode(now, next) {
  return now.nodeType === next.nodeType && now.nodeName === next.nodeName && now.id === next.id
    && now.dataset?.key === next.dataset?.key;
}

// Makes the node `now` equal to `next`, in place.
function updateNode(now, next) {
  if (now.isEqualNode(next)) return;
  if (now.nodeType !== Node.ELEMENT_NODE) {
    now.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...now.attributes]) {
    // The reader opens and closes details; an update must not change them.
    if (!next.hasAttribute(name) && !(name === "open" && now.nodeName === "DETAILS")) now.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  updateChildren(now, next);
}

// Makes the children of `now` equal to those of `next`; a child with a key is moved instead of replaced.
function updateChildren(now, next) {
  const keyed = new Map([...now.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  let at = now.firstChild;
  for (const nextChild of [...next.childNodes]) {
    const existing = nextChild.dataset?.key && keyed.get(nextChild.dataset.key);
    if (existing && existing !== at) {
      now.insertBefore(existing, at);
      updateNode(existing, nextChild);
    } else if (at && isSameNode(at, nextChild)) {
      updateNode(at, nextChild);
      at = at.nextSibling;
    } else {
      now.insertBefore(nextChild, at);
    }
  }
  while (at) {
    const removed = at;
    at = at.nextSibling;
    removed.remove();
  }
}

// Shows if the updates run or are paused, and when the page was fetched.
function showState() {
  const time = fetchedAt.toISOString().slice(11, 19);
  controls.classList.toggle("paused", paused);
  controls.classList.remove("stale");
  state.textContent = paused ? `Paused at ${time}` : "Updating";
  state.title = `Fetched at ${time} UTC`;
  button.textContent = paused ? "Resume" : "Pause";
}

// Shows why there was no update, and since when.
function markStale(reason) {
  controls.classList.add("stale");
  state.textContent = `${reason} since ${fetchedAt.toISOString().slice(11, 19)}`;
}

// Fetches the page once and updates it.
async function updatePage() {
  try {
    const response = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const main = document.querySelector("main");
    const next = page.querySelector("main");
    if (paused) return;
    // Old numbers that are marked as old are more useful than an error; an error page is replaced by any response.
    if (next && (response.ok || main.querySelector("[data-sorry]"))) {
      updateNode(main, document.adoptNode(next));
      document.title = page.title;
      fetchedAt = new Date();
      showState();
    } else {
      markStale("Nothing new");
    }
  } catch {
    markStale("No answer");
  }
}

// Updates the page, if it is visible and not paused, and again after each interval.
async function updateRegularly() {
  if (!paused && !document.hidden) await updatePage();
  setTimeout(updateRegularly, everyMs);
}

button.addEventListener("click", () => {
  paused = !paused;
  sessionStorage.setItem(pausedKey, paused ? "yes" : "no");
  showState();
  if (!paused) updatePage();
});

controls.hidden = false;
showState();
setTimeout(updateRegularly, everyMs);
