// Score history on a canvas, with threshold and alerts, and the same in words for screen readers.

import { h, setText } from "./dom.js";
import { duration, plural, score, utc } from "./format.js";

const MARGIN = { left: 52, right: 12, top: 14, bottom: 24 };
const STEP = 0.01;
// top of the chart, in multiples of the threshold's distance from the lowest score; higher peaks are cut off and labelled
const MOST_HEIGHTS = 3;

/** Colours of the style sheet, for both dark and light. */
function colours(element) {
  const style = getComputedStyle(element);
  const of = (name) => style.getPropertyValue(name).trim();
  return { line: of("--trace"), band: of("--trace-band"), threshold: of("--alert"), alert: of("--alert-soft"),
    text: of("--muted"), grid: of("--line"), cursor: of("--text"), paper: of("--card") };
}

function prepare(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/**
 * Range to draw: the points, the threshold and a proposed one, with a margin. Points far above the lines are cut off;
 * `cutAt` is the highest value with room in the range, or null if all have it.
 */
export function bounds(scores, proposed = null) {
  const lines = [scores.threshold, proposed ?? scores.threshold];
  let [low, high] = [Math.min(...lines), Math.max(...lines)];
  for (const [, bottom, top] of scores.points) {
    low = Math.min(low, bottom);
    high = Math.max(high, top);
  }
  const line = Math.max(...lines);
  const limit = line + (MOST_HEIGHTS - 1) * (line - low);
  const cutAt = line > low && high > limit ? limit : null;
  if (cutAt !== null) high = limit;
  const air = (high - low || Math.abs(high) || 1) * 0.08;
  return { low: low - air, high: high + air, cutAt };
}

/** Points with what is above a limit moved to it. */
function cut(points, limit) {
  return limit === null ? points : points.map(([age, low, high]) => [age, Math.min(low, limit), Math.min(high, limit)]);
}

function drawScores(context, points, x, y, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.beginPath();
  let lastAge = null;
  const gap = points.length > 1 ? Math.max(3, ((points[0][0] - points[points.length - 1][0]) / points.length) * 6) : 3;
  for (const [age, low, high] of points) {
    // leave a gap where no frames were judged
    if (lastAge === null || lastAge - age > gap) context.moveTo(x(age), y(low));
    else context.lineTo(x(age), y(low));
    context.lineTo(x(age), y(high));
    lastAge = age;
  }
  context.stroke();
}

export function drawSparkline(canvas, scores, seconds) {
  const { context, width, height } = prepare(canvas);
  if (!width) return;
  const colour = colours(canvas);
  const { low, high, cutAt } = bounds(scores);
  const x = (age) => width - (age / seconds) * width;
  const y = (value) => height - 2 - ((value - low) / (high - low)) * (height - 4);
  context.setLineDash([4, 3]);
  context.strokeStyle = colour.threshold;
  context.beginPath();
  context.moveTo(0, y(scores.threshold));
  context.lineTo(width, y(scores.threshold));
  context.stroke();
  context.setLineDash([]);
  drawScores(context, cut(scores.points, cutAt), x, y, colour.line, 1.5);
}

function ticks(low, high, number) {
  const rough = (high - low) / number;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / step) * step;
  return Array.from({ length: Math.floor((high - first) / step) + 1 }, (_, index) =>
    Number((first + index * step).toPrecision(6)));
}

/** "Highest 6.21, threshold 4.00, above it in 3 % of the last 10 minutes; 1 alert." */
export function describe(scores, seconds) {
  if (!scores.points.length) return `No scores in the last ${duration(seconds)}.`;
  const highest = Math.max(...scores.points.map((point) => point[2]));
  const above = scores.points.filter((point) => point[2] > scores.threshold).length;
  const last = scores.points[scores.points.length - 1][2];
  return `Last ${duration(seconds)}: score ${score(last)} now, maximum ${score(highest)}, threshold ` +
    `${score(scores.threshold)}. ${above ? `Above it at ${above} of ${scores.points.length} points of the chart` :
      "Never above it"}; ${plural(scores.alerts.length, "alert")}.`;
}

export class Trace {
  #proposed = null;
  #canvas = h("canvas", { class: "trace", tabindex: "0", role: "img", "aria-label": "Scores over time" });
  #readout = h("p", { class: "trace-readout", role: "status" });
  #summary = h("p", { class: "trace-summary" });
  #scores = null;
  #seconds = 600;
  #cursor = null;
  #loadedAt = 0;
  #resize = new ResizeObserver(() => this.#draw());

  constructor() {
    this.element = h("div", { class: "trace-box" }, this.#canvas, this.#readout, this.#summary);
    this.#canvas.addEventListener("pointermove", (event) => {
      const box = this.#canvas.getBoundingClientRect();
      this.#point((event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right));
    });
    this.#canvas.addEventListener("pointerleave", () => this.#point(null));
    this.#canvas.addEventListener("blur", () => this.#point(null));
    this.#canvas.addEventListener("keydown", (event) => this.#onKey(event));
    this.#resize.observe(this.#canvas);
    this.onScheme = () => this.#draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.onScheme);
    this.#point(null);
  }

  /** Draw a threshold that is proposed but not set; null removes it. */
  propose(value) {
    this.#proposed = value;
    this.#canvas.dataset.proposed = value ?? "";
    this.#draw();
  }

  stop() {
    this.#resize.disconnect();
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.onScheme);
  }

  show(scores, seconds) {
    this.#scores = scores;
    this.#seconds = seconds;
    this.#loadedAt = Date.now();
    const words = describe(scores, seconds);
    setText(this.#summary, words);
    this.#canvas.setAttribute("aria-label", `Scores over time. ${words} Use the left and right arrow keys to read values.`);
    this.#canvas.dataset.threshold = scores.threshold;
    this.#draw();
  }

  #onKey(event) {
    const steps = { ArrowLeft: -STEP, ArrowRight: STEP, PageUp: -10 * STEP, PageDown: 10 * STEP }[event.key];
    const ends = { Home: 0, End: 1 }[event.key];
    if (steps === undefined && ends === undefined) return;
    event.preventDefault();
    this.#point(ends ?? Math.min(1, Math.max(0, (this.#cursor ?? 1) + steps)));
  }

  #point(share) {
    this.#cursor = share !== null && share >= 0 && share <= 1 ? share : null;
    const point = this.#nearest();
    if (point) {
      const at = new Date(this.#loadedAt - point[0] * 1000).toISOString();
      const value = point[1] === point[2] ? score(point[1]) : `${score(point[1])} to ${score(point[2])}`;
      const side = point[2] > this.#scores.threshold ? "above" : "below";
      setText(this.#readout, `${duration(point[0])} ago (${utc(at).slice(11)}): ${value}, ${side} the threshold`);
    } else setText(this.#readout, "Point at the chart or use the arrow keys to read a value.");
    this.#draw();
  }

  #nearest() {
    if (this.#cursor === null || !this.#scores?.points.length) return null;
    const age = (1 - this.#cursor) * this.#seconds;
    return this.#scores.points.reduce((best, one) => (Math.abs(one[0] - age) < Math.abs(best[0] - age) ? one : best));
  }

  #draw() {
    if (!this.#scores || !this.#canvas.clientWidth) return;
    const { context, width, height } = prepare(this.#canvas);
    const colour = colours(this.#canvas);
    const { low, high, cutAt } = bounds(this.#scores, this.#proposed);
    this.#canvas.dataset.cutAt = cutAt ?? "";
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const x = (age) => right - (Math.min(age, this.#seconds) / this.#seconds) * (right - MARGIN.left);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);
    for (const [opened, closed] of this.#scores.alerts) {
      context.fillStyle = colour.alert;
      context.fillRect(x(opened), MARGIN.top, Math.max(2, x(closed ?? 0) - x(opened)), bottom - MARGIN.top);
    }
    this.#drawAxes(context, { low, high, right, bottom, x, y, colour });
    drawScores(context, cut(this.#scores.points, cutAt), x, y, colour.line, 1.6);
    if (cutAt !== null) this.#drawCut(context, { x, y, cutAt, right, colour });
    this.#drawThreshold(context, { right, y, value: this.#scores.threshold, name: "threshold", colour: colour.threshold, paper: colour.paper });
    if (this.#proposed !== null) {
      this.#drawThreshold(context, { right, y, value: this.#proposed, name: "new threshold", colour: colour.text, paper: colour.paper });
    }
    this.#drawCursor(context, { x, y, bottom, cutAt, colour });
  }

  #drawAxes(context, { low, high, right, bottom, x, y, colour }) {
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = colour.text;
    context.strokeStyle = colour.grid;
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const value of ticks(low, high, 4)) {
      context.beginPath();
      context.moveTo(MARGIN.left, y(value));
      context.lineTo(right, y(value));
      context.stroke();
      context.fillText(String(value), MARGIN.left - 8, y(value));
    }
    context.textBaseline = "top";
    for (const share of right < 480 ? [1, 0.5, 0] : [1, 0.75, 0.5, 0.25, 0]) {
      const age = share * this.#seconds;
      context.textAlign = share === 0 ? "right" : share === 1 ? "left" : "center";
      context.fillText(share === 0 ? "now" : `−${duration(age)}`, x(age), bottom + 7);
    }
  }

  /** Arrowheads on what the chart cuts off, and the highest value among it. */
  #drawCut(context, { x, y, cutAt, right, colour }) {
    const above = this.#scores.points.filter((point) => point[2] > cutAt);
    const top = y(cutAt);
    context.fillStyle = colour.line;
    for (const [age] of above) {
      context.beginPath();
      context.moveTo(x(age), top - 8);
      context.lineTo(x(age) - 4, top - 1);
      context.lineTo(x(age) + 4, top - 1);
      context.fill();
    }
    const highest = above.reduce((best, one) => (one[2] > best[2] ? one : best));
    const words = score(highest[2]);
    context.font = "600 12px system-ui, sans-serif";
    context.textBaseline = "middle";
    const span = context.measureText(words).width;
    context.textAlign = x(highest[0]) + span + 10 > right ? "right" : "left";
    const left = x(highest[0]) + (context.textAlign === "left" ? 7 : -7);
    context.fillStyle = colour.paper;
    context.fillRect(context.textAlign === "left" ? left - 2 : left - span - 2, top - 10, span + 4, 16);
    context.fillStyle = colour.text;
    context.fillText(words, left, top - 2);
  }

  #drawThreshold(context, { right, y, value, name, colour, paper }) {
    const level = y(value);
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.setLineDash([7, 4]);
    context.beginPath();
    context.moveTo(MARGIN.left, level);
    context.lineTo(right, level);
    context.stroke();
    context.setLineDash([]);
    const words = `${name} ${score(value)}`;
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "bottom";
    const isHigh = level < MARGIN.top + 16;
    const span = context.measureText(words).width;
    // the proposed line's name stands at the other end, so that both stay readable
    const left = name === "threshold" ? MARGIN.left + 2 : right - span - 10;
    context.fillStyle = paper;
    context.fillRect(left, isHigh ? level + 3 : level - 19, span + 8, 16);
    context.fillStyle = colour;
    context.fillText(words, left + 4, isHigh ? level + 18 : level - 4);
  }

  #drawCursor(context, { x, y, bottom, cutAt, colour }) {
    const point = this.#nearest();
    if (!point) return;
    context.strokeStyle = context.fillStyle = colour.cursor;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x(point[0]), MARGIN.top);
    context.lineTo(x(point[0]), bottom);
    context.stroke();
    context.beginPath();
    context.arc(x(point[0]), y(Math.min(point[2], cutAt ?? point[2])), 3.5, 0, 7);
    context.fill();
  }
}
