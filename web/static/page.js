/* What all pages have in common: who is signed in, the navigation, errors in words, updates by themselves. */

import {ApiError, forgetEarly, href, request, requestEarly} from "./api.js";
import {byId, el, fill} from "./dom.js";
import {loadTexts, t} from "./text.js";

const LONGEST_PAUSE_MS = 300_000;
const BACK = "towerwatch-back";
const BACK_WITHIN_MS = 15 * 60_000;
const PAGES = /^\/(watch|told|account)(\?interest=[0-9a-f-]{36})?$/;

/** Thrown by `requireAccount`: the page shows the form that signs in, and has nothing more to do. */
class SignedOutError extends Error {}

/** Run a page: load its texts, ask who is signed in, and call `main` with the context.
 *
 * The context is `{account, session, reload()}`; `account` and `session` are as GET /session shows them, null for a
 * visitor. Whatever `main` throws is shown in words. `<html data-ready>` is set once `main` has returned.
 */
export async function startPage(main) {
  const context = {account: null, session: null, reload: () => run(context, main)};
  requestEarly("/session"); // while the texts come
  try {
    await loadTexts();
  } catch {
    return; // What the server has written is on the page; without texts there is nothing to say more.
  }
  keepQueryInLanguageLinks();
  fillForms();
  await run(context, main);
}

/** Return the account of the context; without one, show the form that signs in, and end the page's `main`. */
export function requireAccount(context) {
  if (context.account) return context.account;
  rememberWayBack();
  showSignedOut(true);
  throw new SignedOutError();
}

/** Return the notices of an account that gets no alerts: unconfirmed, not reached by mails, or paused. */
export function buildAccountNotices(account) {
  const notices = [];
  if (!account.confirmed) notices.push(el("p", {class: "notice"}, t("home.unconfirmed")));
  if (account.confirmed && account.suppressed) notices.push(el("p", {class: "notice"}, t("home.suppressed")));
  if (account.paused) {
    notices.push(el("p", {class: "notice"}, t("account.pause.is_paused"), " ",
      el("a", {href: href("/account")}, t("home.paused_link"))));
  }
  return notices;
}

/** Show an error in the page's alert, in words that say what to do. */
export function showError(error) {
  console.debug(error);
  fill(byId("problem"), el("div", {class: "problem"}, el("p", null, describeError(error))));
}

/** Remove the error that is shown, if any. */
export function clearError() {
  fill(byId("problem"));
}

/** Return what an error means for a person, in the page's language as far as it is known. */
export function describeError(error) {
  if (!(error instanceof ApiError)) return t("error.page");
  if (error.status === 0) return t(navigator.onLine ? "error.unreachable" : "error.offline");
  if (error.status === 401) return t("error.signed_out");
  if (error.status === 429) return t("error.too_many", {count: Math.max(1, Math.ceil((error.retryAfter ?? 60) / 60))});
  if (error.status === 412) return t("error.changed");
  if (error.status === 404) return t("error.gone");
  if (error.status >= 500) return t("error.unavailable");
  return error.detail || t("error.page");
}

/** Say something to screen readers, without moving the focus. */
export function announce(text) {
  byId("status").textContent = text;
}

/** Call the async function `update` at once, then `everyMs` after each call, until the returned function is called.
 *
 * While the tab is hidden nothing is called; once it is shown again, at once. After an error the pauses grow, to five
 * minutes at most or what the service asks for; the error is shown, and taken back by the next success.
 */
export function poll(everyMs, update) {
  let timer = null;
  let isRunning = false;
  let isStopped = false;
  let failures = 0;

  async function tick() {
    clearTimeout(timer);
    if (isRunning || isStopped || document.hidden) return;
    isRunning = true;
    let pause = everyMs;
    try {
      await update();
      if (failures > 0) clearError();
      failures = 0;
    } catch (error) {
      failures += 1;
      const wanted = (error instanceof ApiError && error.retryAfter ? error.retryAfter : 0) * 1000;
      pause = Math.max(wanted, Math.min(LONGEST_PAUSE_MS, everyMs * 2 ** failures));
      if (error instanceof ApiError && error.status === 401) stop();
      showError(error);
    } finally {
      isRunning = false;
    }
    if (!isStopped) timer = setTimeout(tick, pause);
  }

  function stop() {
    isStopped = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", tick);
    window.removeEventListener("online", tick);
  }

  document.addEventListener("visibilitychange", tick);
  window.addEventListener("online", tick);
  tick();
  return stop;
}

async function run(context, main) {
  delete document.documentElement.dataset.ready;
  clearError();
  try {
    const found = await loadSession();
    context.account = found?.user ?? null;
    context.session = found?.session ?? null;
    showSignedOut(!context.account);
    if (context.account) letLanguageLinksChangeAccount(context.account);
    if (!(context.account && followWayBack())) await main(context);
  } catch (error) {
    if (!(error instanceof SignedOutError)) showFailure(error, context);
  }
  forgetEarly();
  document.documentElement.dataset.ready = "yes";
}

/** Return what GET /session shows; null for a visitor. A browser without a cookie is not asked for: it has no session. */
async function loadSession() {
  if (document.documentElement.dataset.session === "none") return null;
  try {
    return (await request("GET", "/session")).body;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return null;
    throw error;
  }
}

function showFailure(error, context) {
  showError(error);
  byId("problem").firstChild.append(el("button", {type: "button", onclick: context.reload}, t("error.again")));
}

function showSignedOut(isSignedOut) {
  byId("signed-out").hidden = !isSignedOut;
  byId("page").hidden = isSignedOut;
  byId("nav").hidden = isSignedOut;
  const button = byId("sign-out");
  button.hidden = isSignedOut;
  button.onclick = signOut;
}

async function signOut() {
  try {
    await request("DELETE", "/session");
    location.assign(href("/"));
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) location.assign(href("/"));
    else showError(error);
  }
}

/** Fill in what the browser knows and a form asks for: its time zone. */
function fillForms() {
  for (const field of document.querySelectorAll("input[name=time_zone][type=hidden]")) {
    field.value = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
  }
}

/** Let the links to other languages keep what the page's address asks for. */
function keepQueryInLanguageLinks() {
  for (const link of document.querySelectorAll(".languages a")) {
    const query = new URLSearchParams(location.search);
    query.set("language", link.hreflang);
    link.search = query.toString();
  }
}

/** Let the links to other languages change the account's, too, in which mails are; the page follows once that is done. */
function letLanguageLinksChangeAccount({email, language}) {
  if (language === undefined) return; // a user_manager of before knows none
  for (const link of document.querySelectorAll(".languages a")) {
    link.onclick = async (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return; // another tab: only that page
      event.preventDefault();
      try {
        await request("PATCH", `/users/${encodeURIComponent(email)}`, {body: {language: link.hreflang}, ifMatch: "*"});
        location.assign(link.href);
      } catch (error) {
        showError(error);
        byId("problem").scrollIntoView({block: "nearest"});
      }
    };
  }
}

function rememberWayBack() {
  const path = location.pathname.slice(href("").length) + location.search;
  try {
    if (PAGES.test(path)) localStorage.setItem(BACK, JSON.stringify({path, at: Date.now()}));
  } catch {
    // Storage is full or forbidden: signing in leads to the first page then.
  }
}

/** Go to the page from which somebody went to sign in, some minutes ago; return whether there is one. */
function followWayBack() {
  if (location.pathname !== href("/")) return false;
  try {
    const {path, at} = JSON.parse(localStorage.getItem(BACK) ?? "{}");
    localStorage.removeItem(BACK);
    if (!PAGES.test(path ?? "") || !(Date.now() - at < BACK_WITHIN_MS)) return false;
    location.replace(href(path));
    return true;
  } catch {
    return false;
  }
}
