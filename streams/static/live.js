// Keeps a page up to date: fetches it again, and changes what is different in place, so that focus, selection, scroll
// positions and opened details stay as they are. Can be paused; rests while the page is not looked at.
"use strict";

const controls = document.querySelector("[data-live-controls]");
const state = controls.querySelector("[data-live-state]");
const button = controls.querySelector("[data-live-button]");
const everyMs = 1000 * Number(controls.dataset.every);
const key = "towerwatch-paused";

let paused = sessionStorage.getItem(key) === "yes";
let newest = new Date();

function isSame(now, next) {
  return now.nodeType === next.nodeType && now.nodeName === next.nodeName && now.id === next.id
    && now.dataset?.key === next.dataset?.key;
}

function change(now, next) {
  if (now.isEqualNode(next)) return;
  if (now.nodeType !== Node.ELEMENT_NODE) {
    now.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...now.attributes]) {
    // Whether details are open is the reader's own affair.
    if (!next.hasAttribute(name) && !(name === "open" && now.nodeName === "DETAILS")) now.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  changeChildren(now, next);
}

function changeChildren(now, next) {
  const keyed = new Map([...now.children].filter((each) => each.dataset.key).map((each) => [each.dataset.key, each]));
  let at = now.firstChild;
  for (const wanted of [...next.childNodes]) {
    const known = wanted.dataset?.key && keyed.get(wanted.dataset.key);
    if (known && known !== at) {
      now.insertBefore(known, at);
      change(known, wanted);
    } else if (at && isSame(at, wanted)) {
      change(at, wanted);
      at = at.nextSibling;
    } else {
      now.insertBefore(wanted, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function show() {
  const time = newest.toISOString().slice(11, 19);
  controls.classList.toggle("paused", paused);
  controls.classList.remove("stale");
  state.textContent = paused ? `Paused at ${time}` : "Live";
  state.title = `Fetched at ${time} UTC`;
  button.textContent = paused ? "Resume" : "Pause";
}

function stale(why) {
  controls.classList.add("stale");
  state.textContent = `${why} since ${newest.toISOString().slice(11, 19)}`;
}

async function update() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = document.querySelector("main");
    const next = page.querySelector("main");
    if (paused) return;
    // Old numbers, marked as such, say more than an error; a page that is an error takes any news.
    if (next && (answer.ok || main.querySelector("[data-sorry]"))) {
      change(main, document.adoptNode(next));
      document.title = page.title;
      newest = new Date();
      show();
    } else {
      stale("Nothing new");
    }
  } catch {
    stale("No answer");
  }
}

async function beat() {
  if (!paused && !document.hidden) await update();
  setTimeout(beat, everyMs);
}

button.addEventListener("click", () => {
  paused = !paused;
  sessionStorage.setItem(key, paused ? "yes" : "no");
  show();
  if (!paused) update();
});

controls.hidden = false;
show();
setTimeout(beat, everyMs);
