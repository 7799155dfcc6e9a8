/* Texts of the page's language, and numbers and times as that language writes them (CLDR, by Intl). */

/** The language of the page, a key of the catalogues: "en" or "it". */
export const language = document.documentElement.lang;

const LOCALE = {en: "en-GB"}[language] ?? language;
const formatters = new Map();
let texts = null;

/** Load the catalogue of the page's language; the second call returns at once. */
export async function loadTexts() {
  if (texts) return;
  const answer = await fetch(new URL(`./texts/${language}.json`, import.meta.url), {credentials: "same-origin"});
  if (!answer.ok) throw new Error(`the texts are not there: ${answer.status}`);
  texts = await answer.json();
}

/** Return the text of a key with `{names}` replaced; of a text with plurals, the form for `values.count`.
 *
 * Numbers are written as the language writes them. Throws for a key that the catalogue does not have, and for a name
 * without a value.
 */
export function t(key, values = {}) {
  const entry = texts?.[key];
  if (entry === undefined) throw new Error(`no text for ${key}`);
  const text = typeof entry === "string" ? entry : (entry[getFormatter("PluralRules").select(values.count)] ?? entry.other);
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    if (!(name in values)) throw new Error(`no value for {${name}} of ${key}`);
    return typeof values[name] === "number" ? formatNumber(values[name]) : String(values[name]);
  });
}

/** Return a number as the language writes it; `options` are those of Intl.NumberFormat. */
export function formatNumber(number, options) {
  return getFormatter("NumberFormat", options ?? {maximumFractionDigits: 2}).format(number);
}

/** Return an instant (ISO text or Date) by the clock of `zone`, the browser's own without one.
 *
 * `options` are those of Intl.DateTimeFormat; by default the day, the month and the minute.
 */
export function formatInstant(instant, {zone, ...options} = {}) {
  return buildFormat(zone, options).format(new Date(instant));
}

/** Return the time from one instant to another by the clock of `zone`, without repeating what they have in common. */
export function formatRange(start, end, zone, options = {}) {
  return buildFormat(zone, options).formatRange(new Date(start), new Date(end));
}

/** Return how long ago an instant is, in words: "3 minutes ago"; "in 2 hours" if it lies ahead. */
export function formatAgo(instant, now) {
  const seconds = (new Date(instant).getTime() - now) / 1000;
  const words = getFormatter("RelativeTimeFormat", {numeric: "auto"});
  for (const [unit, size] of [["day", 86_400], ["hour", 3_600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return words.format(Math.trunc(seconds / size), unit);
  }
  return words.format(0, "minute");
}

function buildFormat(zone, options) {
  const usual = {day: "numeric", month: "short", hour: "2-digit", minute: "2-digit"};
  const chosen = Object.keys(options).length ? options : usual;
  return getFormatter("DateTimeFormat", {...chosen, hourCycle: "h23", timeZone: zone});
}

/** Return a formatter of Intl. Each is made when it is first needed, and kept: making one takes longer than using it. */
function getFormatter(kind, options = {}) {
  const key = `${kind} ${JSON.stringify(options)}`;
  if (!formatters.has(key)) formatters.set(key, new Intl[kind](LOCALE, options));
  return formatters.get(key);
}
