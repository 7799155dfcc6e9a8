/* What the collector's answers mean, in the page's language: airports, interests, their state, their windows. */

import {now as findNow, PRECISION_MS} from "./clock.js";
import {formatAgo, formatInstant, formatNumber, formatRange, language, t} from "./text.js";

const FOR_A_YEAR_MS = 300 * 86_400_000; // A pause beyond this is one "until I resume": the service allows 366 days.
// A day's record comes in the morning after it. OpenSky's is late by a day now and then: nobody need know. Operators are told sooner.
const LATE_AFTER_MS = 54 * 3_600_000;
const FARTHEST_BACK_MS = 29 * 86_400_000; // An interest may be in effect from a day more back.
const REASONS = new Set([
  "not_collected", "gap", "before_coverage", "before_effective_from", "changed_before_judged", "usual_unknown",
  "usual_too_small", "usual_not_reached",
]);
let countries = null;

/** Return the name of an airport's country in the page's language; empty if its code is none. */
export function nameCountry(code) {
  try {
    if (!code) return "";
    countries ??= new Intl.DisplayNames(language, {type: "region", fallback: "code"});
    return countries.of(code);
  } catch {
    return "";
  }
}

/** Return the short name of an airport: "New York, JFK". */
export function nameAirport({icao, iata, city, name}) {
  return `${city || name || icao}, ${iata || icao}`;
}

/** Return the zone by whose clock an interest's windows are shown: UTC for longer windows that begin by it. */
export function findZone(interest, airportZone) {
  return interest.window !== "1h" && interest.aligned_to === "utc" ? "UTC" : airportZone;
}

/** Return the thresholds of an interest: {high, low, measure of each}; null where there is none. */
export function readLevels(interest) {
  const one = (bound) => {
    const flights = interest[`${bound}_value`] ?? null;
    const percent = interest[`${bound}_percent`] ?? null;
    if (flights !== null) return {measure: "flights", value: flights};
    return percent === null ? null : {measure: "percent", value: percent};
  };
  return {high: one("high"), low: one("low")};
}

/** Return the measure in which an interest's chart is drawn. */
export function findMeasure(interest) {
  const {high, low} = readLevels(interest);
  return (high ?? low)?.measure ?? "flights";
}

/** Return the levels that a chart in this measure can show. */
export function findChartLevels(interest) {
  const measure = findMeasure(interest);
  const levels = readLevels(interest);
  const of = (level) => (level?.measure === measure ? level.value : null);
  return {high: of(levels.high), low: of(levels.low)};
}

/** Return a level in words: "above 30 flights", "below 50 % of what is usual". */
export function describeLevel(bound, {measure, value}) {
  return t(`level.${bound}.${measure}`, {count: value});
}

/** Return the direction and the window: "Departures, hour by hour". */
export function describeTraffic({direction, window}) {
  return t(`traffic.${direction}.${window}`);
}

/** Return an interest in words: "Departures, hour by hour: a mail above 30 flights, or below 5 flights". */
export function describeInterest(interest) {
  const levels = readLevels(interest);
  const said = ["high", "low"].filter((bound) => levels[bound]).map((bound) => describeLevel(bound, levels[bound]));
  const text = said.length === 2 ? t("level.both", {one: said[0], other: said[1]}) : said[0] ?? "";
  return t("interest.line", {traffic: describeTraffic(interest), levels: text});
}

/** Return further conditions of an interest as sentences: windows in a row, each window said. */
export function describeMore(interest) {
  const more = [];
  if (interest.for_windows > 1) more.push(t("interest.for_windows", {count: interest.for_windows}));
  if (interest.repeat) more.push(t("interest.repeat"));
  if (interest.window !== "1h") more.push(t(interest.aligned_to === "airport" ? "interest.airport_clock" : "interest.utc"));
  return more;
}

/** Return a number of flights in the interest's direction: "18 departures". */
export function countFlights(direction, count) {
  return t(`flights.${direction}`, {count});
}

/** Return a window in words: "27 Nov, 13:00 – 14:00", or the day. */
export function nameWindow({start, end}, interest, zone) {
  if (interest.window !== "1d") return formatRange(start, end, zone);
  return formatInstant(start, {zone, weekday: "short", day: "numeric", month: "short"});
}

/** Return until when an interest is paused: an instant, "resumed" for a pause without an end, or null. */
export function findPause(interest, now = findNow()) {
  const from = new Date(interest.effective_from).getTime();
  if (from <= now + PRECISION_MS) return null;
  return from - now > FOR_A_YEAR_MS ? "resumed" : interest.effective_from;
}

/** Return the state of an interest as {kind, badge, text}: a kind for its colour, a word, and a sentence. */
export function describeState(answer, zone, now = findNow()) {
  const {interest, state, freshness} = answer;
  const pause = findPause(interest, now);
  if (pause !== null) {
    const text = pause === "resumed" ? t("state.paused.resumed") : t("state.paused.until", {until: formatInstant(pause)});
    return {kind: "paused", badge: t("state.paused"), text};
  }
  const window = answer.windows.find((each) => each.window_start === state.window_start);
  const where = window ? nameWindow({start: window.window_start, end: window.window_end}, interest, zone) : null;
  const flights = state.flights ?? window?.flights ?? null;
  if (state.kind === "firing") {
    const bound = state.bound === "low" ? "low" : "high";
    const text = where && flights !== null
      ? t(`state.firing.${bound}.text`, {flights: countFlights(interest.direction, flights), window: where})
      : t(`state.firing.${bound}.short`);
    return {kind: bound, badge: t(`state.firing.${bound}`), text};
  }
  if (state.kind === "normal") {
    const text = where && flights !== null
      ? t("state.normal.text", {flights: countFlights(interest.direction, flights), window: where})
      : t("state.normal.short");
    return {kind: "ok", badge: t("state.normal"), text};
  }
  if (state.kind === "learning" || (state.kind !== "unknown" && interest.learning_until)) {
    const text = interest.learning_until
      ? t("state.learning.until", {until: formatInstant(interest.learning_until, {zone, day: "numeric", month: "long"})})
      : t("state.learning.text");
    return {kind: "quiet", badge: t("state.learning"), text};
  }
  const text = freshness.unheard_since ? t("state.unknown.unheard") : t(`state.unknown.${freshness.kind === "none" ? "none" : "text"}`);
  return {kind: "quiet", badge: t("state.unknown"), text};
}

/** Return how fresh what an answer tells is, in words; of a source that is late, what that means for the person. */
export function describeFreshness({freshness, windows = []}, zone, now = findNow()) {
  const {kind, known_until: until, unheard_since: unheard} = freshness;
  if (unheard) return t("fresh.unheard", {since: formatInstant(unheard, {zone: "UTC", day: "numeric", month: "long"})});
  if (kind === "live") return t("fresh.live", {ago: formatAgo(until, now)});
  if (kind !== "record" || !until) return t("fresh.none");
  const known = t("fresh.record", {until: formatInstant(until, {zone})});
  if (now - new Date(until).getTime() > LATE_AFTER_MS) return `${known} ${t("fresh.late")}`;
  const live = windows.filter((each) => each.is_live && each.is_closed && each.window_end > until).at(-1);
  return live ? `${known} ${t("fresh.interrupted", {until: formatInstant(live.window_end, {zone})})}` : known;
}

/** Return the start of the first window that may still be told; null: nothing is known of the airport.
 *
 * That is a window that is not known to its end, and of which nobody was told. If there is none, the end of the last one.
 */
export function findFirstUntold({freshness, windows}) {
  const lastKnown = windows.findLastIndex((each) => each.is_closed);
  const untold = windows.find((each, at) => isAwaited(each, at > lastKnown));
  if (untold) return Date.parse(untold.window_start);
  const end = windows.at(-1)?.window_end ?? freshness.known_until;
  return end ? Date.parse(end) : null;
}

/** Return true if what becomes known of a window may still alert; false if it is known, was told, or is never judged.
 *
 * A gap is passed over unless it is the newest, whatever was changed in it: the windows after it would be told again.
 */
function isAwaited({is_closed: isClosed, alerts, why_unknown: why}, isNewest) {
  if (isClosed || alerts.length || ["before_coverage", "before_effective_from"].includes(why)) return false;
  return isNewest || !["gap", "changed_before_judged"].includes(why);
}

/** Return from when on a paused interest is to be judged that is resumed now: from the present or, if a window that began
 * before the pause may still be told, from that one's start. Windows of the pause that are not known yet are told, too.
 */
export function findResumption(answer, now = findNow()) {
  // A pause is a version of its own: the version before it was in effect until then.
  const before = answer.former_versions.filter((each) => Date.parse(each.effective_from) < Date.parse(each.until)).at(-1);
  const untold = findFirstUntold(answer);
  if (!before || untold === null || untold >= Date.parse(before.until)) return now;
  return Math.max(findBegin(answer, now), Math.min(Date.parse(before.effective_from), now));
}

/** Return from when on an interest is to be judged that goes on as this answer shows it: from its first untold window. */
export function findBegin(answer, now = findNow()) {
  const untold = answer && findFirstUntold(answer);
  return untold === null || untold < now - FARTHEST_BACK_MS ? now : Math.min(untold, now);
}

/** Return why a window is not judged, in words; null if it was. */
export function explainUnknown(window) {
  if (!window.why) return null;
  return t(`why.${REASONS.has(window.why) ? window.why : "other"}`);
}

/** Return one alert of a window in words: what was said or taken back and, where its version's levels are known, by which.
 *
 * `raisedBy`: the interest as it was when the alert was raised, null if that is not kept any more; `usual`: what was
 * usual in the window, null without percents.
 */
export function describeAlert(alert, interest, {raisedBy = null, usual = null} = {}) {
  const isBreach = ["firing", "still"].includes(alert.state);
  const isWithdrawn = alert.state === "withdrawn";
  const isEnd = alert.withdrawn_state === "resolved"; // what is withdrawn is that a breach has ended
  const kind = isWithdrawn ? (isEnd ? "withdrawn.end" : "withdrawn.breach") : alert.state;
  const key = isBreach ? `said.${kind}.${alert.bound}` : `said.${kind}`;
  if (alert.flights === null || alert.flights === undefined) return t(`${key}.short`);
  const flights = countFlights(interest.direction, alert.flights);
  const level = raisedBy && readLevels(raisedBy)[alert.bound];
  if (!level) return t(key, {flights});
  const measure = level.measure === "percent" && usual !== null ? "usual" : level.measure;
  const said = t(`said.${kind}.${alert.bound}.${measure}`, {flights, level: level.value, ...(measure === "usual" ? {usual} : {})});
  if (raisedBy.for_windows === 1 || !(isBreach || isWithdrawn)) return said;
  const inARow = isBreach ? `said.in_a_row.${raisedBy.window}` : `said.takes_in_a_row.${raisedBy.window}`;
  return `${said} ${t(inARow, {count: raisedBy.for_windows})}`;
}

/** Return a function that gives the interest of an answer as it was in a version; null if that is not kept any more. */
export function findVersions({interest, former_versions: former = []}) {
  const byVersion = new Map([...former, interest].map((each) => [each.version, {...interest, ...each}]));
  return (version) => byVersion.get(version) ?? null;
}

/** Return the windows of an answer as charts and lists need them. */
export function readWindows(answer) {
  return answer.windows.map((each) => ({
    start: each.window_start,
    end: each.window_end,
    flights: each.flights,
    usual: each.usual ?? null,
    base: each.base ?? [],
    isClosed: each.is_closed,
    isLive: each.is_live,
    why: each.why_unknown,
    breached: each.breached ?? [],
    version: each.version ?? null,
    alerts: (each.alerts ?? []).map((alert) => ({...alert, state: alert.state.toLowerCase(), bound: alert.bound.toLowerCase()})),
  }));
}

/** Return the usual number of a window and the weeks that it comes from, in words; null without one. */
export function describeUsual(window) {
  if (window.usual === null) return null;
  const base = window.base.map((each) => formatNumber(each.flights)).join(", ");
  return base ? t("usual.base", {usual: window.usual, base}) : t("usual.text", {usual: window.usual});
}
