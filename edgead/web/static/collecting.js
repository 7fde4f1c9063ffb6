// Collecting pictures of good parts of one camera: start, counts, stop.

import { get, path, send } from "./api.js";
import { h, setText } from "./dom.js";
import { count } from "./format.js";

const ASK_MS = 2000;
const ENDS = {
  stop: "Stopped.", limit: "The wanted number is reached.", max_mb: "The folder is full.", source: "The stream ended.",
};

export class Collecting {
  #camera;
  #state = null;
  #timer = 0;
  #isBusy = false;
  #isClosed = false;
  #words = h("p", { class: "hint collected", role: "status" });
  #problem = h("p", { class: "problem", role: "alert" });

  /** @param camera name of the camera */
  constructor(camera) {
    this.#camera = camera;
    this.button = h("button", { type: "button", class: "toggle", "aria-pressed": "false", onclick: () => this.#flip() }, "Collect good pictures");
    this.element = h("div", {}, this.#words, this.#problem);
    this.#ask();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  get #url() {
    return path("cameras", this.#camera, "collection");
  }

  async #flip() {
    if (this.#isBusy) return;
    this.#isBusy = true;
    setText(this.#problem, "");
    try {
      this.#show(await send("PUT", this.#url, { collecting: !this.#state?.collecting }));
    } catch (error) {
      setText(this.#problem, error.words ?? String(error));
    } finally {
      this.#isBusy = false;
    }
  }

  async #ask() {
    try {
      const state = await get(this.#url);
      if (!this.#isBusy) this.#show(state);
    } catch (error) {
      // 409: this stream has no folder for pictures
      this.button.hidden = this.#state === null && error.status === 409;
      if (this.#state?.collecting) this.#wait();
    }
  }

  #wait() {
    clearTimeout(this.#timer);
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#ask(), ASK_MS);
  }

  #show(state) {
    this.#state = state;
    this.button.setAttribute("aria-pressed", String(state.collecting));
    this.button.replaceChildren(state.collecting ? "Stop collecting" : "Collect good pictures");
    setText(this.#words, state.collecting || state.ended ? wordsOf(state) : "");
    setText(this.#problem, state.problem);
    if (state.collecting) this.#wait();
  }
}

/** "Collecting for ana: 12 of 200 pictures saved of 30 frames; left out: 10 near-copies, 8 anomalous. In /data/alerts/collected." */
export function wordsOf(state) {
  const left = [[state.near_copies, "near-copies"], [state.anomalous, "anomalous"], [state.faulty, "with a camera fault"]];
  const out = left.filter(([number]) => number).map(([number, words]) => `${count(number)} ${words}`).join(", ");
  const found = `${count(state.saved)} of ${count(state.limit)} pictures saved of ${count(state.looked_at)} frames${out ? `; left out: ${out}` : ""}.`;
  const folder = ` ${state.folder} has ${count(state.pictures)} (${state.megabytes} MB).`;
  return state.collecting ? `Collecting for ${state.who}, a frame every ${state.every_s} s: ${found}${folder}`
    : `${ENDS[state.ended] ?? "Ended by an error."} ${found}${folder}`;
}
