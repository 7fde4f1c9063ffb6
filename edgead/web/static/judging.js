// Judgements of alerts: words, requests, and the form for one alert or several.

import { get, path, send } from "./api.js";
import { h, setText } from "./dom.js";
import { plural } from "./format.js";

export const JUDGEMENTS = [["defect", "Defect", "d"], ["false-alarm", "False alarm", "f"], ["unsure", "Unsure", "u"]];
export const FILTERS = [
  ["", "All judgements"], ["review", "Unjudged first"], ["unjudged", "Not judged"],
  ...JUDGEMENTS.map(([judgement, words]) => [judgement, words]),
];

export const wordsOf = (judgement) => JUDGEMENTS.find(([one]) => one === judgement)?.[1] ?? judgement;

/** "False alarm: dust", or null of an unjudged alert. */
export function summaryOf(record) {
  if (!record.judgement) return null;
  return record.judgement_kind ? `${wordsOf(record.judgement)}: ${record.judgement_kind}` : wordsOf(record.judgement);
}

/**
 * Judge alerts one after the other: the records of those stored, a sentence for each that could not be, and `current`:
 * every record as the device has it now, also those that another person has judged.
 */
export async function judge(records, judgement, { kind, note }) {
  const judged = [];
  const current = [];
  const problems = [];
  for (const record of records) {
    try {
      // the device refuses it if another person has judged the alert since this page has read it
      const body = { judgement, kind, note, instead_of: record.n_judgements ?? 0 };
      judged.push(await send("POST", path("alerts", record.id, "judge"), body));
      current.push(judged.at(-1));
    } catch (error) {
      const again = error.status === 409 ? "Judge it again to replace that." : error.hint ?? "";
      problems.push(`${record.camera ?? record.id}: ${error.message} ${again}`.trim());
      if (error.status === 0 || error.status === 401) break;
      if (error.status === 409) current.push(...await readAgain(record.id));
    }
  }
  return { judged, current, problems };
}

/** The record as the device has it now, in a list that is empty if it cannot be read. */
export async function readAgain(id) {
  try {
    return [await get(path("alerts", id))];
  } catch {
    return [];
  }
}

/** Kind, note and a button for each judgement of a `thing`; `onJudge` gets the judgement and { kind, note }. */
export class JudgeForm {
  #heading = h("p", { class: "judge-heading" });
  #kind;
  #note;
  #kinds;
  #buttons;
  #problem = h("p", { class: "problem", role: "alert" });
  #done = h("p", { class: "hint", role: "status" });
  #onJudge;
  #judgements;
  #thing;

  constructor(name, onJudge, judgements = JUDGEMENTS, thing = "alert") {
    this.#onJudge = onJudge;
    this.#judgements = judgements;
    this.#thing = thing;
    this.#kinds = h("datalist", { id: `${name}-kinds` });
    this.#kind = h("input", { id: `${name}-kind`, maxlength: "64", list: `${name}-kinds`, autocomplete: "off" });
    this.#note = h("input", { id: `${name}-note`, maxlength: "500", autocomplete: "off" });
    this.#buttons = judgements.map(([judgement, words, key]) => h("button", {
      type: "button", class: "toggle", "data-judgement": judgement, onclick: () => this.submit(judgement) }, words, h("kbd", {}, key)));
    this.element = h("div", { class: "judge", role: "group", "aria-label": "Judge" }, this.#heading,
      h("div", { class: "controls" }, this.#buttons),
      h("div", { class: "judge-words" },
        h("div", {}, h("label", { for: `${name}-kind` }, "Kind (optional)"), this.#kind, this.#kinds),
        h("div", {}, h("label", { for: `${name}-note` }, "Note (optional)"), this.#note)),
      this.#problem, this.#done);
  }

  show(heading, judgement = null) {
    setText(this.#heading, heading);
    for (const button of this.#buttons) button.setAttribute("aria-pressed", String(button.dataset.judgement === judgement));
  }

  offer(kinds) {
    this.#kinds.replaceChildren(...kinds.map((kind) => h("option", { value: kind })));
  }

  /** Texts of the judgement in force, unless a person is typing. */
  fill(kind, note) {
    if (this.element.contains(document.activeElement) && document.activeElement.matches("input")) return;
    this.#kind.value = kind ?? "";
    this.#note.value = note ?? "";
  }

  clear() {
    this.#kind.value = this.#note.value = "";
    setText(this.#problem, "");
    setText(this.#done, "");
  }

  async submit(judgement) {
    if (this.#buttons[0].disabled) return;
    for (const button of this.#buttons) button.disabled = true;
    setText(this.#problem, "");
    try {
      const words = { kind: this.#kind.value.trim(), note: this.#note.value.trim() };
      const { judged, problems } = await this.#onJudge(judgement, words);
      setText(this.#problem, problems.join(" "));
      setText(this.#done, judged.length ? `${plural(judged.length, this.#thing)} judged: ${this.#wordsOf(judgement)}` : "");
    } finally {
      for (const button of this.#buttons) button.disabled = false;
    }
  }

  #wordsOf = (judgement) => this.#judgements.find(([one]) => one === judgement)[1];
}
