/* The REST of both services, at this page's own origin. */

import {noteDate} from "./clock.js";

const BASE = document.documentElement.dataset.base ?? "";
const PATIENCE_MS = 30_000;

/** Answers that were asked for early, by path; each is given once. */
const early = new Map();

/** An answer that is no success, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(status, {detail = "", errors = [], retryAfter = null} = {}) {
    super(detail || `status ${status}`);
    this.name = "ApiError";
    this.status = status;
    /** What the service says, a sentence in English; empty if it says nothing. */
    this.detail = detail;
    /** The faults of single members: `{field, message}`. */
    this.errors = errors;
    /** Seconds to wait before the next attempt, or null. */
    this.retryAfter = retryAfter;
  }
}

/** Return the address of a path of this site, for links and forms. */
export function href(path) {
  return BASE + path;
}

/** Send GET requests now whose answers the page will need, before it knows who is signed in.
 *
 * The first `request("GET", path)` of each returns, or throws, what comes. A browser without a session asks nothing.
 */
export function requestEarly(...paths) {
  if (document.documentElement.dataset.session === "none") return;
  for (const path of paths) {
    const answer = request("GET", path);
    answer.catch(() => {}); // who asks for it gets the error; nobody may, if the page shows the form that signs in
    early.set(path, answer);
  }
}

/** Forget the answers of `requestEarly` that nobody has asked for: they grow old. */
export function forgetEarly() {
  early.clear();
}

/** Send a request, and return `{status, body, etag, location}`; `body` is JSON, or null without one.
 *
 * `body` is sent as JSON; `ifMatch` and `ifNoneMatch` are ETags (an answer 304 is returned, not thrown). Throws ApiError
 * for every answer from 400 on and for a failure of the network; throws the AbortError of `signal` if that is aborted.
 * Nothing is tried again.
 */
export async function request(method, path, {body, ifMatch, ifNoneMatch, signal, headers = {}} = {}) {
  if (method === "GET" && early.has(path)) {
    const answer = early.get(path);
    early.delete(path);
    return answer;
  }
  const sent = {Accept: "application/json", ...headers};
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (ifMatch) sent["If-Match"] = ifMatch;
  if (ifNoneMatch) sent["If-None-Match"] = ifNoneMatch;
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), PATIENCE_MS);
  const abort = () => deadline.abort();
  signal?.throwIfAborted();
  signal?.addEventListener("abort", abort);
  try {
    const answer = await fetch(BASE + path, {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal: deadline.signal,
    });
    noteDate(path, answer.headers.get("Date"));
    const content = await readJson(answer);
    if (answer.status >= 400) throw buildError(answer, content);
    const location = answer.headers.get("Location");
    return {status: answer.status, body: content, etag: answer.headers.get("ETag"), location};
  } catch (error) {
    if (error instanceof ApiError) throw error;
    if (signal?.aborted) throw signal.reason;
    throw new ApiError(0);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

async function readJson(answer) {
  const text = await answer.text();
  if (!/\bjson\b/.test(answer.headers.get("Content-Type") ?? "")) return null;
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

function buildError(answer, problem) {
  const wait = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  return new ApiError(answer.status, {
    detail: typeof problem?.detail === "string" ? problem.detail : "",
    errors: Array.isArray(problem?.errors) ? problem.errors : [],
    retryAfter: Number.isFinite(wait) && wait >= 0 ? wait : null,
  });
}
