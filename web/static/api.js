/* The REST of both services, at this page's own origin. */

import {noteDate} from "./clock.js";

const BASE = document.documentElement.dataset.base ?? "";
const PATIENCE_MS = 30_000;

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

/** Send a request, and return `{status, body, etag, location}`; `body` is JSON, or null without one.
 *
 * `body` is sent as JSON; `ifMatch` and `ifNoneMatch` are ETags (an answer 304 is returned, not thrown). Throws ApiError
 * for every answer from 400 on and for a failure of the network; throws the AbortError of `signal` if that is aborted.
 * Nothing is tried again.
 */
export async function request(method, path, {body, ifMatch, ifNoneMatch, signal, headers = {}} = {}) {
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
