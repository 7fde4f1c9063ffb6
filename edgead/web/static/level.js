// Score relative to its threshold, as a bar with a mark in the middle.

import { h } from "./dom.js";
import { score } from "./format.js";

const END = 2;

export function levelBar(label) {
  const fill = h("span", { class: "level-fill" });
  const element = h("div", { class: "level", role: "meter", "aria-label": label, "aria-valuemin": "0",
    "aria-valuemax": String(END) }, fill, h("span", { class: "level-mark" }));
  return {
    element,
    show(zone) {
      const level = Math.min(END, Math.max(0, zone.level ?? 0));
      fill.style.width = `${(level / END) * 100}%`;
      element.classList.toggle("is-above", level > 1);
      element.setAttribute("aria-valuenow", level.toFixed(2));
      element.setAttribute("aria-valuetext", zone.score === null ? "no score yet"
        : `${score(zone.score)}, threshold ${score(zone.threshold)}`);
    },
  };
}
