// The threshold of one zone: its false-alarm rate, the form to change it, and earlier changes.

import { get, path, send } from "./api.js";
import { facts, h, setText } from "./dom.js";
import { ago, duration, oneIn, percent, plural, score, utc } from "./format.js";
import { store } from "./store.js";

// zone of a camera without zones
export const PICTURE = "picture";
const SHOWN_CHANGES = 20;
const TYPING_MS = 250;
const WAYS = [
  { key: "false_alarm_rate", label: "False-alarm rate", unit: "% of good pictures", step: "any", factor: 100,
    now: (zone) => zone.rate?.false_alarm_rate,
    say: (value) => `accept about ${percent(value)} of good pictures as false alarms (${oneIn(value)})` },
  { key: "alarms_per_hour", label: "False alarms per hour", unit: "per hour", step: "any", factor: 1,
    now: (zone) => zone.alarms_per_hour?.per_hour, say: (value) => `accept about ${Number(value.toPrecision(3))} false alarms per hour` },
  { key: "value", label: "Score", unit: "raw score", step: "any", factor: 1,
    now: (zone) => zone.threshold, say: (value) => `set the threshold to ${score(value)}` },
];

// a larger share is not said as "1 in 1"
const SAID_AS_ONE_IN = 0.1;

/** What a threshold means for good pictures, in one plain sentence. */
export function promise(rate, where = "this threshold") {
  const share = rate?.false_alarm_rate;
  if (share === null || share === undefined) return `It is not known how many good pictures score above ${where}.`;
  if (share === 0) return `Hardly any good picture scores above ${where}.`;
  const words = share < SAID_AS_ONE_IN ? `${oneIn(share)} good pictures scores` : `${percent(share)} of good pictures score`;
  return `${rate.certified ? "At most" : "About"} ${words} above ${where}.`;
}

/** Figures behind that sentence, as [term, value] pairs. */
function basis(rate) {
  if (!rate?.n_images) return [];
  const pictures = plural(rate.n_images, "good picture");
  const rows = [["Known from", rate.certified ? `${pictures}, enough to certify it` : `${pictures}, too few to certify it; extrapolated`]];
  if (rate.interval) rows.push(["Threshold for this rate, 95 % interval", `${score(rate.interval[0])} to ${score(rate.interval[1])}`]);
  return rows;
}

/** "In the last 10 min it would have raised 2 alerts; the present threshold would have raised 5." */
export function whatIf(past, isLower = false) {
  if (!past) return "";
  const most = past.at_most ? "at most " : "";
  return `In the last ${duration(Math.round(past.seconds))} it would have raised ${most}${plural(past.alerts, "alert")}; ` +
    `the present threshold would have raised ${most}${past.alerts_now}.` +
    (isLower && past.alerts < past.alerts_now ? " Fewer, because alerts last longer and run into each other." : "");
}

export class ThresholdPanel {
  #camera;
  #zone = null;
  #way = WAYS[0];
  #hourRow = false;
  #onChanged;
  #onPropose;
  #seconds;
  #typing = 0;
  #turn = 0;
  #title = h("h2", { id: "threshold-title" });
  #promise = h("p", { class: "promise" });
  #numbers = h("div");
  #numbersShown = "";
  #select = h("select", { id: "threshold-way" });
  #input = h("input", { id: "threshold-value", type: "number", required: true, inputmode: "decimal", step: "any" });
  #unit = h("span", { class: "muted" });
  #preview = h("p", { class: "preview", role: "status" });
  #previewFigures = figures();
  #result = h("p", { class: "result", role: "status" });
  #changes = h("div");
  #dialog = h("dialog", { "aria-labelledby": "confirm-title" });
  #onChange = (event) => event.detail.camera === this.#camera && this.#loadChanges();

  /**
   * @param camera name of the camera
   * @param onChanged called after a change
   * @param onPropose called with the score of a value that is being typed, or null
   * @param seconds returns the time, in seconds, whose alerts are counted under a value
   */
  constructor(camera, onChanged, onPropose, seconds) {
    this.#camera = camera;
    this.#onChanged = onChanged;
    this.#onPropose = onPropose;
    this.#seconds = seconds;
    this.#select.addEventListener("change", () => this.#choose(this.#select.value));
    this.#input.addEventListener("input", () => this.#type());
    this.element = h("section", { class: "card", "aria-labelledby": "threshold-title" },
      this.#title, this.#promise,
      h("details", { class: "change" }, h("summary", {}, "Change the threshold"),
        h("form", { onsubmit: (event) => this.#review(event) },
          h("label", { for: "threshold-way" }, "Set by"), this.#select,
          h("label", { for: "threshold-value" }, "New value"),
          h("div", { class: "with-unit" }, this.#input, this.#unit), this.#preview, this.#previewFigures.element,
          h("button", { class: "primary" }, "Review …"))),
      this.#result, h("details", { class: "change" }, h("summary", {}, "Details and earlier changes"), this.#numbers, this.#changes), this.#dialog);
    for (const kind of ["change", "listening"]) store.addEventListener(kind, this.#onChange);
    this.#loadChanges();
  }

  /** @param isUnlike whether the frames are unlike the training images, so that no promise holds */
  show(zone, isUnlike = false) {
    const isNew = zone.name !== this.#zone?.name;
    this.#zone = zone;
    setText(this.#title, zone.name === PICTURE ? "Threshold" : `Threshold of ${zone.name}`);
    setText(this.#promise, promise(zone.rate));
    this.#promise.classList.toggle("is-certified", Boolean(zone.rate?.certified) && !isUnlike);
    const hours = zone.alarms_per_hour;
    const rows = [["Threshold", score(zone.threshold)], ["False-alarm rate", percent(zone.rate?.false_alarm_rate)],
      ...basis(zone.rate)];
    if (hours) rows.push(["False alarms per hour", hours.text ?? String(hours.per_hour)]);
    if (JSON.stringify(rows) !== this.#numbersShown) {
      this.#numbersShown = JSON.stringify(rows);
      this.#numbers.replaceChildren(facts(rows));
    }
    if (!isNew && this.#hourRow === Boolean(hours)) return;
    this.#hourRow = Boolean(hours);
    const ways = WAYS.filter((way) => way.key !== "alarms_per_hour" || hours);
    this.#select.replaceChildren(...ways.map((way) => h("option", { value: way.key }, way.label)));
    this.#choose(ways.includes(this.#way) ? this.#way.key : ways[0].key);
    if (isNew) setText(this.#result, "");
  }

  close() {
    for (const kind of ["change", "listening"]) store.removeEventListener(kind, this.#onChange);
    clearTimeout(this.#typing);
    this.#dialog.close();
  }

  #type() {
    clearTimeout(this.#typing);
    this.#turn += 1;
    this.#typing = setTimeout(() => this.#propose(), TYPING_MS);
  }

  /** Draw the line of the value in the form, and say what it would have done; null if another value was typed meanwhile. */
  async #propose() {
    clearTimeout(this.#typing);
    const [text, zone, way] = [this.#input.value, this.#zone, this.#way];
    const value = Number(text) / way.factor;
    const turn = ++this.#turn;
    const isSame = () => turn === this.#turn;
    let found = { words: "", figures: "", to: null };
    let proposed = null;
    if (text !== "" && value > 0) {
      try {
        const url = path("cameras", this.#camera, "zones", zone.name, "threshold");
        const answer = await get(`${url}?${way.key}=${encodeURIComponent(value)}&seconds=${this.#seconds()}`);
        if (!isSame()) return null;
        proposed = answer.to === zone.threshold ? null : answer.to;
        const isSaid = proposed !== null && answer.past;
        found = { words: [isSaid ? whatIf(answer.past, answer.to < zone.threshold) : "", answer.warning, promise(answer.rate)].filter(Boolean).join(" "),
          figures: answer.text, to: answer.to };
      } catch (error) {
        if (!isSame()) return null;
        found = { words: error.words ?? String(error), figures: "", to: null };
      }
    }
    this.#onPropose(proposed);
    setText(this.#preview, found.words);
    this.#previewFigures.show(found.figures);
    return found;
  }

  #clearProposal() {
    clearTimeout(this.#typing);
    this.#turn += 1;
    this.#onPropose(null);
    setText(this.#preview, "");
    this.#previewFigures.show("");
  }

  #choose(key) {
    this.#way = WAYS.find((way) => way.key === key);
    this.#select.value = key;
    const now = this.#way.now(this.#zone);
    this.#input.value = now === null || now === undefined ? "" : Number((now * this.#way.factor).toPrecision(4));
    setText(this.#unit, this.#way.unit);
    this.#clearProposal();
  }

  #review(event) {
    event.preventDefault();
    const value = Number(this.#input.value) / this.#way.factor;
    const zone = this.#zone;
    const way = this.#way;
    // what stands below the form may still be about the value before
    const meaning = h("p", { class: "meaning", role: "status" }, "Working out what it would have done …");
    const more = figures();
    const then = h("span", {}, "…");
    this.#propose().then((found) => {
      if (!meaning.isConnected) return;
      setText(meaning, found?.words ?? "");
      more.show(found?.figures ?? "");
      setText(then, score(found?.to));
    });
    const problem = h("p", { class: "problem", role: "alert" });
    const apply = h("button", { type: "button", class: "primary" }, "Change threshold");
    apply.addEventListener("click", async () => {
      apply.disabled = true;
      setText(problem, "");
      try {
        const url = path("cameras", this.#camera, "zones", zone.name, "threshold");
        const answer = await send("PUT", url, { [way.key]: value });
        this.#dialog.close();
        this.#clearProposal();
        setText(this.#result, [`Changed from ${score(answer.from)} to ${score(answer.to)}.`, answer.warning, promise(answer.rate)].filter(Boolean).join(" "));
        this.#loadChanges();
        this.#onChanged();
      } catch (error) {
        setText(problem, error.words);
      } finally {
        apply.disabled = false;
      }
    });
    this.#dialog.replaceChildren(
      h("h2", { id: "confirm-title" }, "Change the threshold?"),
      h("p", {}, `On ${this.#camera}${zone.name === PICTURE ? "" : `, zone ${zone.name}`}: ${way.say(value)}.`),
      meaning, more.element,
      facts([["Threshold now", score(zone.threshold)], ["New threshold", then], ["False-alarm rate now", percent(zone.rate?.false_alarm_rate)]]),
      h("p", { class: "hint" }, "The change takes effect with the next frame and is recorded under your name."), problem,
      h("div", { class: "actions" }, apply,
        h("button", { type: "button", onclick: () => this.#dialog.close() }, "Cancel")));
    this.#dialog.showModal();
    apply.focus();
  }

  async #loadChanges() {
    try {
      const all = await get(path("changes"));
      const mine = all.filter((change) => change.camera === this.#camera).slice(0, SHOWN_CHANGES);
      this.#changes.replaceChildren(mine.length ? changesTable(mine) : h("p", { class: "muted" }, "No changes so far."));
    } catch {
      // retried at the next change or visit
    }
  }
}

/** Statistics behind a sentence, shown on demand; nothing without any. */
function figures() {
  const text = h("p", { class: "muted" });
  const element = h("details", { class: "figures" }, h("summary", {}, "Figures"), text);
  element.hidden = true;
  return {
    element,
    show(words) {
      setText(text, words);
      element.hidden = !words;
    },
  };
}

function changesTable(changes) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Changes of the threshold" },
    h("table", {},
      h("thead", {}, h("tr", {}, ["When", "Who", "Zone", "From", "To"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, changes.map((change) => h("tr", { title: change.detail ?? "" },
        h("td", {}, h("time", { datetime: change.at, title: utc(change.at) }, ago(change.at))), h("td", {}, change.who ?? "–"),
        h("td", {}, change.zone ?? "–"), h("td", { class: "figure" }, score(change.from)),
        h("td", { class: "figure" }, score(change.to)))))));
}
