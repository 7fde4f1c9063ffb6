// Numbers and times in words.

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });

/** At least three significant figures; fewer decimals for larger numbers. */
export function score(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.1 || size === 0) return value.toFixed(size >= 1 ? 2 : 3);
  return value.toPrecision(3);
}

/** "10.3, threshold 8.65": "10.3 of 8.65" would read as a share. */
export const against = (value, threshold) => `${score(value)}, threshold ${score(threshold)}`;

/** The device's words as a sentence of their own. */
export function sentence(words) {
  return words ? `${words[0].toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? "" : "."}` : "";
}

export function percent(fraction) {
  if (fraction === null || fraction === undefined) return "–";
  return `${Number((fraction * 100).toPrecision(2))} %`;
}

export function count(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en");
}

export function ms(value) {
  return value === null || value === undefined ? "–" : `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

// the clocks of device and browser differ by less
const FUTURE_S = 3600;

/** "3 minutes ago"; `now` in ms. */
export function ago(iso, now = Date.now()) {
  const seconds = (now - Date.parse(iso)) / 1000;
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < -FUTURE_S) return "dated in the future, by a wrong clock";
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  const [unit, size] = UNITS.find(([, length]) => seconds >= length);
  return relative.format(-Math.floor(seconds / size), unit);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)} s`;
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].map(([unit, size], index, all) =>
    [Math.floor((index ? seconds % all[index - 1][1] : seconds) / size), unit]);
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts.slice(first, first + 2).filter(([amount]) => amount > 0).map((part) => part.join(" ")).join(" ");
}

export function utc(iso) {
  const at = new Date(iso);
  return Number.isNaN(at.valueOf()) ? "–" : `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

export function plural(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

/** A small share as "1 in 200", which reads better than "0.5 %". */
export function oneIn(fraction) {
  return fraction > 0 ? `1 in ${count(Math.round(1 / fraction))}` : "none";
}
