// Learning a false alarm: a button below its judgement, what came of it, and its undoing.

import { get, path, send } from "./api.js";
import { h, setText } from "./dom.js";
import { store } from "./store.js";

// the first picture of a model takes some seconds, and a busy device several times as long
const LIMIT_MS = 130000;

export class LearnForm {
  #id;
  #record = null;
  #button = h("button", { type: "button", onclick: () => this.#learn(false) }, "Stop alarms like this");
  #sure = h("button", { type: "button", onclick: () => this.#learn(true) }, "It is a good part: learn it");
  #undo = h("button", { type: "button", onclick: () => this.#undoIt() }, "Undo: bring the model before back");
  // the model that this alert's picture made, while it is the active one
  #learnedModel = null;
  #isAsked = false;
  #done = h("p", { class: "hint", role: "status" });
  #problem = h("p", { class: "problem", role: "alert" });

  constructor(id) {
    this.#id = id;
    this.#sure.hidden = this.#undo.hidden = true;
    this.element = h("div", { class: "learn" },
      h("div", { class: "actions" }, this.#button, this.#sure, this.#undo,
        h("span", { class: "hint" }, "The model learns that this picture is good. This can be undone here, and on the page System.")),
      this.#done, this.#problem);
    this.element.hidden = true;
  }

  /** Offered for a false alarm alone, and where the stream has a model store. */
  show(record) {
    this.#record = record;
    this.element.hidden = record.judgement !== "false-alarm" || !store.info?.can?.learning;
    // a link to an alert may be drawn before the device has said what it can
    if (!store.info) store.addEventListener("cameras", () => this.show(this.#record), { once: true });
    else if (!this.element.hidden && !this.#isAsked) this.#ask();
  }

  /** Offer to undo what was learned from this alert earlier, if that is the last change of the model. */
  async #ask() {
    this.#isAsked = true;
    try {
      const answer = await get(path("models"));
      const learned = (name) => answer.installed.find((one) => one.name === name)?.facts?.learned.includes(this.#id);
      if (this.#learnedModel || !answer.previous || !learned(answer.active) || learned(answer.previous)) return;
      this.#offerUndo(answer.active);
      setText(this.#done, `Learned: model ${answer.active} is active.`);
    } catch {
      // the page System says why the models cannot be read
    }
  }

  #offerUndo(model) {
    this.#learnedModel = model;
    this.#undo.hidden = model === null;
    this.#button.hidden = model !== null;
  }

  async #undoIt() {
    this.#undo.disabled = true;
    setText(this.#problem, "");
    setText(this.#done, "Undoing …");
    try {
      const body = { active: this.#learnedModel, why: `what was learned from ${this.#id} is undone` };
      const answer = await send("POST", path("models", "rollback"), body);
      this.#offerUndo(null);
      setText(this.#done, `Undone: model ${answer.active} is active again; the line changes to it within seconds.`);
    } catch (error) {
      setText(this.#done, "");
      setText(this.#problem, error.words ?? String(error));
    } finally {
      this.#undo.disabled = false;
    }
  }

  async #learn(sure) {
    this.#button.disabled = this.#sure.disabled = true;
    setText(this.#problem, "");
    setText(this.#done, "Learning …");
    try {
      const answer = await send("POST", path("alerts", this.#id, "learn"), { sure }, LIMIT_MS);
      const one = answer.alerts[0];
      const isOffered = one?.refusal === "defect-like" || one?.refusal === "spread";
      this.#sure.hidden = !isOffered;
      if (one?.learned && answer.model) this.#offerUndo(answer.model);
      setText(this.#done, one?.learned ? `Learned: model ${answer.model} is active. ${one.warning ?? ""}`.trim()
        : one ? `Not learned: ${one.reason}` : "It is learned already.");
    } catch (error) {
      setText(this.#done, "");
      setText(this.#problem, error.words ?? String(error));
    } finally {
      this.#button.disabled = this.#sure.disabled = false;
    }
  }
}
