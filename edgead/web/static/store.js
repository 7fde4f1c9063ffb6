// State of the device: cameras by polling, events as server-sent events.

import { get, link, path, setUp } from "./api.js";

const POLL_MS = 1000;
const POLL_HIDDEN_MS = 10000;
const RETRY_MS = 3000;

/** Fires `cameras`, `alert` (detail: the event), `change`, and `listening`: earlier events may have been missed. */
export const store = Object.assign(new EventTarget(), { cameras: [], info: null, isLoaded: false });

let timer = 0;
let events = null;
let isRunning = false;

export function start() {
  if (isRunning) return;
  isRunning = true;
  listen();
  poll();
}

export function stop() {
  isRunning = false;
  clearTimeout(timer);
  unlisten();
}

/** Poll now rather than at the next turn. */
export function refresh() {
  if (isRunning) poll();
}

export function camera(name) {
  return store.cameras.find((one) => one.name === name);
}

async function poll() {
  clearTimeout(timer);
  try {
    const cameras = await get(path("cameras"));
    if (!store.info) store.info = await get(path("info"));
    Object.assign(store, { cameras: cameras.map(withAlerts), isLoaded: true });
    store.dispatchEvent(new Event("cameras"));
  } catch {
    // the banner or the login page shows the problem
  }
  clearTimeout(timer);
  if (isRunning) timer = setTimeout(poll, document.hidden ? POLL_HIDDEN_MS : POLL_MS);
}

/** Correct a verdict that was read before an alert of one of the zones. */
function withAlerts(camera) {
  const alerts = camera.zones.flatMap((zone) => zone.alert ?? []);
  if (!alerts.length || !["ok", "anomaly", "waiting"].includes(camera.verdict)) return camera;
  return { ...camera, verdict: alerts.some((alert) => alert.state === "open") ? "alert" : "held" };
}

function unlisten() {
  events?.close();
  events = null;
}

function listen() {
  unlisten();
  if (document.hidden) return;
  events = new EventSource(path("events"));
  for (const kind of ["alert", "camera", "change"]) {
    events.addEventListener(kind, (message) => {
      setUp(true);
      const detail = JSON.parse(message.data);
      store.dispatchEvent(new CustomEvent(kind, { detail }));
      refresh();
    });
  }
  events.onopen = () => store.dispatchEvent(new Event("listening"));
  events.onerror = () => {
    // after an HTTP error the browser does not reconnect
    if (events?.readyState === EventSource.CLOSED && isRunning) setTimeout(() => isRunning && listen(), RETRY_MS);
  };
}

link.addEventListener("back", refresh);
// browsers open few connections per host, and hidden tabs would hold them all
document.addEventListener("visibilitychange", () => {
  if (document.hidden) unlisten();
  else if (isRunning) {
    listen();
    refresh();
  }
});
