// The fixed scale of the heatmap: the same colours for the same values on every picture.

import { h, setText } from "./dom.js";
import { score } from "./format.js";

/** `show(scale)`: raw values at the ends and in the middle of the colours. */
export function legend() {
  const [low, threshold, high] = [h("span"), h("span"), h("span")];
  const element = h("figure", { class: "legend" },
    h("figcaption", {}, "Heatmap scale, the same for every picture"),
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
