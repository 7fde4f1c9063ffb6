// Legend of the heatmap's fixed colour scale.

import { h, setText } from "./dom.js";
import { score } from "./format.js";

/** `show(scale)`: raw values at the ends and the middle of the scale. */
export function legend() {
  const [low, threshold, high] = [h("span"), h("span"), h("span")];
  const element = h("figure", { class: "legend" },
    h("figcaption", {}, "Heatmap scale, the same for every frame"),
    h("div", { class: "legend-bar", "aria-hidden": "true" }),
    h("div", { class: "legend-values" }, low, threshold, high));
  return {
    element,
    show(scale) {
      setText(low, `${score(scale.low)} ordinary`);
      setText(threshold, `${score(scale.threshold)} pixel threshold`);
      setText(high, `${score(scale.high)} and above`);
    },
  };
}
