// Verdicts of cameras: words, order of urgency, badges and the summary in the header.

import { h, icon, setClass, setText } from "./dom.js";
import { plural } from "./format.js";

const WORDS = {
  ok: "OK", anomaly: "Anomaly", alert: "Alert", held: "Alert held", fault: "Picture fault",
  lost: "Camera lost", failed: "Camera failed", waiting: "Starting",
};
// most urgent first
const ORDER = ["alert", "failed", "lost", "held", "fault", "anomaly", "waiting", "ok"];
const ABOUT_CAMERAS = { failed: true, lost: true, waiting: true };
const SENTENCES = {
  alert: (n) => plural(n, "alert"),
  failed: (n) => plural(n, "camera failed", "cameras failed"),
  lost: (n) => plural(n, "camera lost", "cameras lost"),
  held: (n) => `${plural(n, "alert")} to acknowledge`,
  fault: (n) => plural(n, "picture fault"),
  anomaly: (n) => plural(n, "anomaly", "anomalies"),
  waiting: (n) => plural(n, "camera starting", "cameras starting"),
};

/** Whether the camera gives no pictures: its scores are none, and its last error says why. */
export const isGone = (camera) => ["lost", "failed"].includes(camera.verdict);

export const words = (verdict) => WORDS[verdict] ?? verdict;

export function badge() {
  const text = h("span");
  const element = h("span", { class: "badge" }, text);
  let shown = null;
  return {
    element,
    show(verdict, label = words(verdict)) {
      setText(text, label);
      if (verdict === shown) return;
      shown = verdict;
      setClass(element, "is-", verdict);
      element.querySelector("svg")?.remove();
      element.prepend(icon(verdict));
    },
  };
}

/** `{verdict, text}` for all cameras: the most urgent verdict, and at most one more in words. */
export function summary(cameras) {
  if (!cameras.length) return { verdict: "waiting", text: "No cameras" };
  const [worst, second] = ORDER.filter((verdict) => cameras.some((camera) => camera.verdict === verdict));
  if (worst === "ok") {
    return { verdict: "ok", text: cameras.length === 1 ? "Camera OK" : `All ${cameras.length} cameras OK` };
  }
  const more = second && second !== "ok" ? ` · ${sentence(second, cameras)}` : "";
  return { verdict: worst ?? "waiting", text: sentence(worst, cameras) + more };
}

function sentence(verdict, cameras) {
  const named = cameras.filter((camera) => camera.verdict === verdict);
  const number = ["alert", "held"].includes(verdict)
    ? named.reduce((sum, camera) => sum + Math.max(1, openAlerts([camera]).length), 0) : named.length;
  const where = named.length > 2 ? `${named.length} cameras` : named.map((camera) => camera.name).join(", ");
  return `${SENTENCES[verdict](number)}${verdict in ABOUT_CAMERAS ? ":" : " on"} ${where}`;
}

/** Open and held alerts of all zones. */
export function openAlerts(cameras) {
  return cameras.flatMap((camera) => camera.zones.filter((zone) => zone.alert).map((zone) => zone.alert));
}

/** The zone nearest to its threshold, or furthest above it. */
export function worstZone(camera) {
  return camera.zones.reduce((worst, zone) => ((zone.level ?? -1) > (worst.level ?? -1) ? zone : worst), camera.zones[0]);
}
