// The threshold of one zone: its false-alarm rate, the form to change it, and earlier changes.

import { get, path, send } from "./api.js";
import { facts, h, setText } from "./dom.js";
import { ago, count, oneIn, percent, score, utc } from "./format.js";
import { store } from "./store.js";

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

/** The false-alarm rate of the threshold, in words. */
export function promise(zone) {
  const { rate } = zone;
  if (!rate || rate.false_alarm_rate === null || rate.false_alarm_rate === undefined) {
    return "It is not known how many good pictures exceed this threshold.";
  }
  const share = `${percent(rate.false_alarm_rate)} of good pictures (${oneIn(rate.false_alarm_rate)})`;
  const range = rate.interval ? ` The threshold for this share is between ${score(rate.interval[0])} and ${score(rate.interval[1])} (95 %).` : "";
  if (rate.certified) return `Certified: at most ${share} exceed it, measured on ${count(rate.n_images)} good pictures.`;
  return `Extrapolated: about ${share} exceed it; ${count(rate.n_images)} good pictures are too few to measure this.` +
    range;
}

export class ThresholdPanel {
  #camera;
  #zone = null;
  #way = WAYS[0];
  #hourRow = false;
  #onChanged;
  #onPropose;
  #typing = 0;
  #title = h("h2", { id: "threshold-title" });
  #promise = h("p", { class: "promise" });
  #numbers = h("div");
  #numbersShown = "";
  #select = h("select", { id: "threshold-way" });
  #input = h("input", { id: "threshold-value", type: "number", required: true, inputmode: "decimal", step: "any" });
  #unit = h("span", { class: "muted" });
  #preview = h("p", { class: "preview", role: "status" });
  #result = h("p", { class: "result", role: "status" });
  #changes = h("div");
  #dialog = h("dialog", { "aria-labelledby": "confirm-title" });
  #onChange = (event) => event.detail.camera === this.#camera && this.#loadChanges();

  /**
   * @param camera name of the camera
   * @param onChanged called after a change
   * @param onPropose called with the score of a value that is being typed, or null; returns what it would have meant
   */
  constructor(camera, onChanged, onPropose) {
    this.#camera = camera;
    this.#onChanged = onChanged;
    this.#onPropose = onPropose;
    this.#select.addEventListener("change", () => this.#choose(this.#select.value));
    this.#input.addEventListener("input", () => this.#type());
    this.element = h("section", { class: "card", "aria-labelledby": "threshold-title" },
      this.#title, this.#promise,
      h("details", { class: "change" }, h("summary", {}, "Change the threshold"),
        h("form", { onsubmit: (event) => this.#review(event) },
          h("label", { for: "threshold-way" }, "Set by"), this.#select,
          h("label", { for: "threshold-value" }, "New value"),
          h("div", { class: "with-unit" }, this.#input, this.#unit), this.#preview,
          h("button", { class: "primary" }, "Review …"))),
      this.#result, h("details", { class: "change" }, h("summary", {}, "Details and earlier changes"), this.#numbers, this.#changes), this.#dialog);
    for (const kind of ["change", "listening"]) store.addEventListener(kind, this.#onChange);
    this.#loadChanges();
  }

  show(zone) {
    const isNew = zone.name !== this.#zone?.name;
    this.#zone = zone;
    setText(this.#title, `Threshold of ${zone.name}`);
    setText(this.#promise, promise(zone));
    this.#promise.classList.toggle("is-certified", Boolean(zone.rate?.certified));
    const hours = zone.alarms_per_hour;
    const rows = [["Threshold", score(zone.threshold)], ["False-alarm rate", percent(zone.rate?.false_alarm_rate)]];
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
    this.#typing = setTimeout(() => this.#propose(), TYPING_MS);
  }

  /** Draw the line of the value in the form, and say what it would have done. */
  async #propose() {
    const [text, zone, way] = [this.#input.value, this.#zone, this.#way];
    const value = Number(text) / way.factor;
    const isSame = () => text === this.#input.value && zone.name === this.#zone.name && way === this.#way;
    let words = "";
    let proposed = null;
    if (text !== "" && value > 0) {
      try {
        const url = path("cameras", this.#camera, "zones", zone.name, "threshold");
        const answer = await get(`${url}?${way.key}=${encodeURIComponent(value)}`);
        if (!isSame()) return;
        proposed = answer.to === zone.threshold ? null : answer.to;
        words = answer.text;
      } catch (error) {
        if (!isSame()) return;
        words = error.words;
      }
    }
    const past = this.#onPropose(proposed);
    setText(this.#preview, [past, words].filter(Boolean).join(" "));
  }

  #clearProposal() {
    clearTimeout(this.#typing);
    this.#onPropose(null);
    setText(this.#preview, "");
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
        setText(this.#result, `Changed from ${score(answer.from)} to ${score(answer.to)}. ${answer.text ?? ""}`);
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
      h("p", {}, `On ${this.#camera}, zone ${zone.name}: ${way.say(value)}.`),
      h("p", {}, this.#preview.textContent),
      facts([["Threshold now", score(zone.threshold)], ["False-alarm rate now", percent(zone.rate?.false_alarm_rate)]]),
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
      this.#changes.replaceChildren(mine.length ? changesTable(mine) : h("p", { class: "muted" }, "None so far."));
    } catch {
      // retried at the next change or visit
    }
  }
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
