/* The services' present time: this device's clock may be wrong by hours, and a demo's service lives in another year. */

/** Milliseconds by which an instant of a service may seem to lie ahead: its `Date` has whole seconds. */
export const PRECISION_MS = 2_000;

const OF_ACCOUNTS = /^\/(users|session|sign-in|deletions)\b/;
const offsets = {};

/** Remember what a service's clock shows: `date` is the header `Date` (RFC 9110, 6.6.1) of an answer to this path. */
export function noteDate(path, date) {
  const shown = Date.parse(date ?? "");
  if (!Number.isNaN(shown)) offsets[nameService(path)] = shown - Date.now();
}

/** Return the present time of the service that has the airports, in milliseconds; this device's before any answer. */
export function now() {
  return Date.now() + (offsets.airports ?? offsets.accounts ?? 0);
}

/** Return the present time of the service that has the accounts, in milliseconds. */
export function nowOfAccounts() {
  return Date.now() + (offsets.accounts ?? 0);
}

function nameService(path) {
  return OF_ACCOUNTS.test(path) ? "accounts" : "airports";
}
