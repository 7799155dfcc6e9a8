/* The account: who one is, pause, browsers, token, export, deletion. */

import {ApiError, href, request} from "./api.js";
import {nowOfAccounts} from "./clock.js";
import {byId, el, fill} from "./dom.js";
import {announce, clearError, describeError, poll, requireAccount, showError, startPage} from "./page.js";
import {formatAgo, formatInstant, language, t} from "./text.js";

const LOOK_EVERY_MS = 1500;
const DELETION = /^#deletion=([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

/** The account as it was read last, and its ETag. */
let user = null;
let etag = null;

startPage(async (context) => {
  const deletion = DELETION.exec(location.hash);
  if (deletion && !context.account) {
    showProgress(deletion[1]);
    return;
  }
  const {email} = requireAccount(context);
  const [account, sessions] = await Promise.all([
    request("GET", pathOf(email)),
    request("GET", `${pathOf(email)}/sessions`),
  ]);
  showAccount(account);
  showSessions(sessions.body.sessions);
  byId("account").hidden = false;
});

byId("you").addEventListener("submit", act(save));
byId("zone").addEventListener("input", showZone);
byId("zone").addEventListener("focus", fillZones, {once: true});
byId("own-zone").addEventListener("click", useOwnZone);
byId("pause").addEventListener("click", act(togglePause));
byId("end-all").addEventListener("click", act(endAllSessions));
byId("replace").addEventListener("click", () => askReplacement(true));
byId("replace-no").addEventListener("click", () => askReplacement(false));
byId("replace-yes").addEventListener("click", act(replaceToken));
byId("copy").addEventListener("click", act(copyToken));
byId("export").addEventListener("click", act(saveExport));
byId("delete").addEventListener("submit", act(deleteAccount));

/** Return a listener that runs an async function once at a time, and shows in words what it throws. */
function act(work) {
  let isRunning = false;
  return async (event) => {
    event.preventDefault();
    if (isRunning) return;
    isRunning = true;
    clearError();
    try {
      await work(event);
    } catch (error) {
      showError(error);
    } finally {
      isRunning = false;
    }
  };
}

function pathOf(email) {
  return `/users/${encodeURIComponent(email)}`;
}

/* Who one is */

function showAccount(answer) {
  user = answer.body.user;
  etag = answer.etag;
  byId("account-email").textContent = user.email;
  byId("typed").placeholder = user.email;
  byId("name").value = user.name;
  byId("zone").value = user.time_zone;
  byId("corrections").checked = user.corrections;
  byId("language-field").hidden = user.language === undefined;
  byId("language").value = user.language ?? language;
  showPause();
  showZone();
}

function showPause() {
  byId("pause-state").textContent = t(user.paused ? "account.pause.is_paused" : "account.pause.is_on");
  byId("pause").textContent = t(user.paused ? "account.pause.resume" : "account.pause.pause");
}

/** Change some members of the account as it was read, and show what it is then. */
async function change(members) {
  const answer = await request("PATCH", pathOf(user.email), {body: members, ifMatch: etag});
  const typed = {name: byId("name").value, zone: byId("zone").value};
  showAccount(answer);
  return typed;
}

async function save() {
  showFaults([]);
  const members = {
    name: byId("name").value,
    time_zone: byId("zone").value.trim(),
    corrections: byId("corrections").checked,
  };
  const isOther = user.language !== undefined && byId("language").value !== user.language;
  if (user.language !== undefined) members.language = byId("language").value;
  try {
    await change(members);
  } catch (error) {
    if (await isChangedElsewhere(error)) return;
    if (!(error instanceof ApiError) || !showFaults(error.errors)) throw error;
    return;
  }
  // The server keeps the language of the pages for this browser, too.
  if (isOther) location.assign(`${href("/account")}?language=${encodeURIComponent(user.language)}`);
  else tell(t("account.you.saved"), byId("you"));
}

/** After an answer 412, read the account anew and show it with the error; return whether it was such an answer. */
async function isChangedElsewhere(error) {
  if (!(error instanceof ApiError) || error.status !== 412) return false;
  showAccount(await request("GET", pathOf(user.email)));
  showError(error);
  return true;
}

/** Show the faults beside their fields, and move the focus to the first; return whether there is one of a field here. */
function showFaults(faults) {
  let first = null;
  for (const [member, id, describe] of [
    ["name", "name", () => t("account.you.name_fault")],
    ["time_zone", "zone", describeZoneFault],
  ]) {
    const fault = faults.find((each) => each.field === member);
    byId(`${id}-fault`).textContent = fault ? describe(fault.message) : "";
    byId(id).setAttribute("aria-invalid", fault ? "true" : "false");
    if (fault) first ??= byId(id);
  }
  first?.focus();
  return first !== null;
}

function describeZoneFault(message) {
  const meant = /did you mean (\S+)\?/.exec(message);
  return meant ? t("account.you.zone_meant", {zone: meant[1]}) : t("account.you.zone_fault");
}

/** Offer all zones: four hundred elements, which nobody waits for before the field is used. */
function fillZones() {
  fill(byId("zones"), listZones().map((zone) => el("option", {value: zone})));
}

function listZones() {
  const known = typeof Intl.supportedValuesOf === "function" ? Intl.supportedValuesOf("timeZone") : [];
  return [...new Set([...known, "UTC", ownZone(), user.time_zone])].filter(Boolean).sort();
}

function ownZone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
}

/** Say what time it is in the zone that stands in the field, by which one sees whether it is the right one. */
function showZone() {
  const zone = byId("zone").value.trim();
  let hint = t("account.you.zone_hint");
  try {
    if (zone) hint = t("account.you.zone_now", {time: formatInstant(nowOfAccounts(), {zone, hour: "2-digit", minute: "2-digit"})});
  } catch {
    // No zone of that name is known here; the server says what may be meant.
  }
  byId("zone-hint").textContent = hint;
  const own = ownZone();
  byId("own-zone").hidden = !own || own === zone;
  byId("own-zone").textContent = t("account.you.own_zone", {zone: own});
}

function useOwnZone() {
  byId("zone").value = ownZone();
  showZone();
  byId("zone").focus();
}

async function togglePause() {
  const typed = {name: byId("name").value, zone: byId("zone").value};
  try {
    await change({paused: !user.paused});
  } catch (error) {
    if (await isChangedElsewhere(error)) return;
    throw error;
  }
  byId("name").value = typed.name; // what was typed and not saved yet stays
  byId("zone").value = typed.zone;
  showZone();
  announce(t(user.paused ? "account.pause.is_paused" : "account.pause.is_on"));
}

/* Browsers */

function showSessions(sessions) {
  fill(byId("sessions"), sessions.map(buildSession));
}

function buildSession(session) {
  const device = session.device || t("account.sessions.unknown");
  const since = formatInstant(session.created_at, {zone: user.time_zone, dateStyle: "medium"});
  const used = session.is_current ? t("account.sessions.here") : t("account.sessions.used", {ago: formatAgo(session.last_used_at, nowOfAccounts())});
  return el("li", {"data-current": session.is_current ? "yes" : null},
    el("div", null,
      el("strong", null, device), session.is_current && [" ", el("span", {class: "badge ok"}, t("account.sessions.current"))],
      el("p", {class: "quiet"}, used, " · ", t("account.sessions.since", {day: since}))),
    el("button", {type: "button", "aria-label": t("account.sessions.end_one", {device}), onclick: act(() => endSession(session))},
      t("account.sessions.end")));
}

async function endSession(session) {
  try {
    await request("DELETE", `${pathOf(user.email)}/sessions/${session.session_id}`);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error; // 404: it has ended by itself
  }
  if (session.is_current) {
    location.assign(href("/"));
    return;
  }
  showSessions((await request("GET", `${pathOf(user.email)}/sessions`)).body.sessions);
  byId("sessions-title").focus();
  announce(t("account.sessions.ended", {device: session.device || t("account.sessions.unknown")}));
}

async function endAllSessions() {
  await request("DELETE", `${pathOf(user.email)}/sessions`);
  location.assign(href("/"));
}

/* The token of programs */

function askReplacement(isAsked) {
  byId("replace-ask").hidden = !isAsked;
  byId("replace").setAttribute("aria-expanded", String(isAsked));
  if (isAsked) byId("token-new").hidden = true;
  byId(isAsked ? "replace-question" : "replace").focus();
}

async function replaceToken() {
  const answer = await request("POST", `${pathOf(user.email)}/token`);
  askReplacement(false);
  byId("token").value = answer.body.token;
  byId("token-new").hidden = false;
  byId("token").focus();
  byId("token").select();
}

async function copyToken() {
  const field = byId("token");
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    field.select(); // on plain http there is no clipboard for pages, or the person has forbidden it
    if (!document.execCommand("copy")) {
      tell(t("account.token.copy_by_hand"), byId("token-new"));
      return;
    }
  }
  tell(t("account.token.copied"), byId("token-new"));
}

/* The export */

async function saveExport() {
  const {body} = await request("GET", `${pathOf(user.email)}/export`);
  const file = new Blob([`${JSON.stringify(body, null, 2)}\n`], {type: "application/json"});
  const address = URL.createObjectURL(file);
  const link = el("a", {href: address, download: `towerwatch-${body.exported_at.slice(0, 10)}.json`, hidden: true});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  tell(t("account.export.saved"), byId("export").parentElement);
}

/* The deletion */

async function deleteAccount() {
  const typed = byId("typed").value.trim().toLowerCase();
  const isSame = typed === user.email.toLowerCase();
  byId("typed-fault").textContent = isSame ? "" : t("account.delete.other", {email: user.email});
  byId("typed").setAttribute("aria-invalid", isSame ? "false" : "true");
  if (!isSame) {
    byId("typed").focus();
    return;
  }
  let answer = null;
  try {
    answer = await request("DELETE", pathOf(user.email));
  } catch (error) {
    throw error instanceof ApiError && error.status >= 500 ? new NotDeletedError() : error;
  }
  if (answer.status === 202) {
    const id = answer.body.deletion_id;
    history.replaceState(null, "", `#deletion=${id}`); // it names nobody, and is the right to nothing but a look
    showProgress(id);
  } else {
    showDeleted();
  }
}

/** Thrown where the service says that it could not delete the account now. */
class NotDeletedError extends ApiError {
  constructor() {
    super(422, {detail: t("account.delete.not_now")});
  }
}

/** Show how far a deletion is, until it is complete. */
function showProgress(id) {
  showFarewell(t("account.deleting.title"), t("account.deleting.text"));
  showSteps(false, false);
  const stop = poll(LOOK_EVERY_MS, async () => {
    let body = null;
    try {
      body = (await request("GET", `/deletions/${id}`)).body;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      stop();
      showFarewell(t("account.delete.title"), t("account.delete.unknown"));
      fill(byId("deletion-steps"));
      return;
    }
    showSteps(body.interests_deleted === true, body.status === "completed");
    if (body.status === "completed") {
      stop();
      showDeleted();
    }
  });
}

function showDeleted() {
  showFarewell(t("account.deleted.title"), t("account.deleted.text"));
  showSteps(true, true);
  byId("deletion-next").hidden = false;
}

function showFarewell(title, text) {
  for (const id of ["account", "account-title", "nav", "signed-out"]) byId(id).hidden = true;
  byId("page").hidden = false;
  byId("deletion").hidden = false;
  byId("deletion-title").textContent = title;
  byId("deletion-text").textContent = text;
  byId("deletion-title").focus();
  announce(title);
}

function showSteps(areInterestsDeleted, isAccountDeleted) {
  const steps = [
    [t("account.deleting.asked"), true],
    [t("account.deleting.interests"), areInterestsDeleted],
    [t("account.deleting.account"), isAccountDeleted],
  ];
  fill(byId("deletion-steps"), steps.map(([text, isDone]) => el("li", {class: isDone ? "done" : null},
    el("span", {"aria-hidden": "true"}, isDone ? "✓ " : "… "), text,
    el("span", {class: "unseen"}, ` (${t(isDone ? "account.deleting.done" : "account.deleting.open")})`))));
}

/** Say that something was done, beside it and to screen readers. */
function tell(text, place) {
  place.querySelector(".told")?.remove();
  place.append(el("p", {class: "told"}, text));
  announce(text);
}
