// Judging the frame that is shown, without an alert: it is held on the device, shown still, and stored with a judgement.

import { path, request, send } from "./api.js";
import { h, setText } from "./dom.js";
import { against } from "./format.js";
import { JudgeForm } from "./judging.js";

export const FRAME_JUDGEMENTS = [["defect", "Defect", "d"], ["good", "Good (false alarm)", "f"], ["unsure", "Unsure", "u"]];

const WIDTH = 1280;

export class FrameJudging {
  #camera;
  #live;
  #held = null;
  #isJudged = false;
  #isBusy = false;
  #isClosed = false;
  #problem = h("p", { class: "problem", role: "alert" });
  #form = new JudgeForm("frame", (judgement, words) => this.#store(judgement, words), FRAME_JUDGEMENTS, "frame");

  /**
   * @param camera name of the camera
   * @param live its `LivePicture`, which rests while a frame is judged
   */
  constructor(camera, live) {
    this.#camera = camera;
    this.#live = live;
    this.button = h("button", { type: "button", "aria-keyshortcuts": "j", onclick: () => this.flip() });
    this.element = h("div", {}, this.#problem, this.#form.element);
    this.#show();
  }

  /** Say whether the camera has a frame that can be judged. */
  set hasPicture(is) {
    this.button.disabled = !is && this.#held === null;
    this.button.title = this.button.disabled ? "There is no picture of this camera to judge." : "";
  }

  /** Hold the frame that is shown; the next time, back to the live picture. */
  async flip() {
    if (this.#isBusy || this.button.disabled) return;
    setText(this.#problem, "");
    if (this.#held) {
      this.#held = null;
      this.#live.resume();
      this.#show();
      return;
    }
    this.#isBusy = true;
    const frame = this.#live.frame;
    this.#live.pause();
    try {
      const held = await send("POST", path("cameras", this.#camera, "frames"), frame === null ? {} : { frame });
      const response = await request(`${path("cameras", this.#camera, "frames", held.id, "picture.jpg")}?width=${WIDTH}`);
      const content = await response.blob();
      if (this.#isClosed) return;
      await this.#live.still(content);
      this.#held = held;
      this.#isJudged = false;
      this.#form.clear();
    } catch (error) {
      setText(this.#problem, error.words ?? String(error));
      this.#live.resume();
    } finally {
      this.#isBusy = false;
      this.#show();
    }
  }

  /** Judge the held frame by key. */
  judge(judgement) {
    if (this.#held) this.#form.submit(judgement);
  }

  close() {
    this.#isClosed = true;
  }

  async #store(judgement, { kind, note }) {
    const held = this.#held;
    try {
      const body = { judgement, kind, note, again: this.#isJudged };
      const stored = await send("POST", path("cameras", this.#camera, "frames", held.id, "judge"), body);
      this.#isJudged = true;
      this.#form.show(headingOf(held), judgement);
      return { judged: [stored], problems: [] };
    } catch (error) {
      // the next click replaces the judgement of another person, which is shown now
      if (error.status === 409) this.#isJudged = true;
      return { judged: [], problems: [error.status === 409 ? `${error.message} Judge it again to replace that.` : error.words] };
    }
  }

  #show() {
    const isHeld = this.#held !== null;
    this.button.replaceChildren(isHeld ? "Back to live" : "Judge this frame", " ", h("kbd", { "aria-hidden": "true" }, "j"));
    this.#form.element.hidden = !isHeld;
    if (isHeld) this.#form.show(headingOf(this.#held));
  }
}

function headingOf(held) {
  if (held.score === null) return `Frame ${held.frame}, which the model did not judge`;
  return `Frame ${held.frame}, score ${against(held.score, held.threshold)}`;
}
