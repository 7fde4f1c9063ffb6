// REST client, and whether the device is reachable.

export class ApiError extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }

  /** One or two sentences for people. */
  get words() {
    return this.hint ? `${this.message} ${this.hint}` : this.message;
  }
}

/** Fires `lost`, `back` and `login`; `heardAt`: time of the device's last answer, in ms. */
export const link = Object.assign(new EventTarget(), { isUp: true, heardAt: Date.now() });

const TIMEOUT_MS = 8000;

/** Relative to the page, so that a proxy may show it under any path. */
export const path = (...parts) => `api/v1/${parts.map(encodeURIComponent).join("/")}`;

/** Send a request; the response, or an `ApiError`. */
export async function request(url, { method = "GET", body, signal, timeoutMs = TIMEOUT_MS } = {}) {
  const limit = AbortSignal.timeout(timeoutMs);
  const headers = {};
  if (method !== "GET") headers["X-Edgead"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(url, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
      credentials: "same-origin", signal: signal && AbortSignal.any ? AbortSignal.any([signal, limit]) : signal ?? limit,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    setUp(false);
    throw new ApiError(0, "The device does not answer.", "");
  }
  setUp(true);
  if (response.ok) return response;
  if (response.status === 401 && url !== path("session")) link.dispatchEvent(new Event("login"));
  const answer = await response.json().catch(() => null);
  throw new ApiError(
    response.status, answer?.error?.message ?? `The device answered ${response.status}.`, answer?.error?.hint ?? "");
}

export async function get(url, signal) {
  return (await request(url, { signal })).json();
}

export async function send(method, url, body, timeoutMs) {
  const response = await request(url, { method, body, timeoutMs });
  return response.status === 204 ? null : response.json();
}

export function setUp(isUp) {
  if (isUp) link.heardAt = Date.now();
  if (isUp === link.isUp) return;
  link.isUp = isUp;
  link.dispatchEvent(new Event(isUp ? "back" : "lost"));
}
