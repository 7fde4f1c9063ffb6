// Left-out scores of a teaching: a dot for each picture, and the threshold that the highest one sets.

import { h, setText, svg } from "./dom.js";
import { plural, score } from "./format.js";

const WIDTH = 400;
const HEIGHT = 170;
const MARGIN = { left: 56, right: 10, top: 12, bottom: 24 };

export class LeftOutChart {
  #figure = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "left-out", role: "img", "aria-label": "No scores yet" });
  #words = h("p", { class: "hint" });
  #shown = "";

  constructor() {
    this.element = h("div", {}, this.#figure, this.#words);
  }

  /** @param state answer of `cameras/CAMERA/teaching` */
  show({ scores, scoring, verdict, pictures }) {
    setText(this.#words, describe(scores, scoring, verdict, pictures.length));
    const shown = JSON.stringify([scores, verdict?.threshold]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#figure.toggleAttribute("hidden", scores.length === 0);
    this.#figure.setAttribute("aria-label", this.#words.textContent);
    if (scores.length) this.#draw(scores, verdict?.threshold ?? Math.max(...scores.map((one) => one.score)));
  }

  #draw(scores, threshold) {
    const values = scores.map((one) => one.score);
    const [low, high] = [Math.min(...values, threshold), Math.max(...values, threshold)];
    const air = (high - low || Math.abs(high) || 1) * 0.1;
    const x = (index) => MARGIN.left + ((index + 0.5) / scores.length) * (WIDTH - MARGIN.left - MARGIN.right);
    const y = (value) => MARGIN.top + ((high + air - value) / (high - low + 2 * air)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    const label = (value) => svg("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, score(value));
    const radius = scores.length > 60 ? 2.5 : 5;
    this.#figure.replaceChildren(
      svg("line", { x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: HEIGHT - MARGIN.bottom, y2: HEIGHT - MARGIN.bottom, class: "axis" }),
      svg("line", { x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y(threshold), y2: y(threshold), class: "limit" }),
      label(threshold), ...(low < threshold ? [label(low)] : []),
      svg("text", { x: MARGIN.left, y: HEIGHT - 6 }, "first"), svg("text", { x: WIDTH - MARGIN.right, y: HEIGHT - 6, "text-anchor": "end" }, "last picture"),
      ...scores.map((one, index) => svg("circle", { cx: x(index), cy: y(one.score), r: radius, class: one.score >= threshold ? "is-highest" : "" },
        svg("title", {}, `${one.picture}: ${score(one.score)}`))));
  }
}

/** "10 pictures, each judged by a model without it: 1.02 to 3.41. 0004.png sets the threshold." */
export function describe(scores, [done, total], verdict, n) {
  const going = total ? ` Computing: ${done} of ${total} models.` : "";
  if (!scores.length) return n < 5 ? "They come with the fifth picture: each picture is judged by a model without it." : `Computing the first scores …${going}`;
  const values = scores.map((one) => one.score);
  const highest = scores[values.indexOf(Math.max(...values))];
  const sets = verdict ? `The threshold is ${score(verdict.threshold)}.` : `${highest.picture} would set the threshold: leave it out if its part is not good.`;
  return `${plural(scores.length, "picture")}, each judged by a model without it: ${score(Math.min(...values))} to ${score(highest.score)}. ${sets}${going}`;
}
