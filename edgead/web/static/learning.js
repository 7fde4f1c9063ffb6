// Learning a false alarm: a button below its judgement, and what came of it.

import { path, send } from "./api.js";
import { h, setText } from "./dom.js";
import { store } from "./store.js";

// the first picture of a model takes some seconds, and a busy device several times as long
const LIMIT_MS = 130000;

export class LearnForm {
  #id;
  #record = null;
  #button = h("button", { type: "button", onclick: () => this.#learn(false) }, "Stop alarms like this");
  #sure = h("button", { type: "button", onclick: () => this.#learn(true) }, "It is a good part: learn it");
  #done = h("p", { class: "hint", role: "status" });
  #problem = h("p", { class: "problem", role: "alert" });

  constructor(id) {
    this.#id = id;
    this.#sure.hidden = true;
    this.element = h("div", { class: "learn" },
      h("div", { class: "actions" }, this.#button, this.#sure,
        h("span", { class: "hint" }, "The model learns that this picture is good; edgead model rollback undoes it.")),
      this.#done, this.#problem);
    this.element.hidden = true;
  }

  /** Offered for a false alarm alone, and where the stream has a model store. */
  show(record) {
    this.#record = record;
    this.element.hidden = record.judgement !== "false-alarm" || !store.info?.can?.learning;
    // a link to an alert may be drawn before the device has said what it can
    if (!store.info) store.addEventListener("cameras", () => this.show(this.#record), { once: true });
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
