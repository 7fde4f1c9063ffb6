// Help on words and keys, and the switch for single-key shortcuts.

import { h } from "./dom.js";

const KEYS = [
  ["o", "Cameras"], ["l", "Alerts"], ["s", "System"], ["h", "Heatmap on or off, on a camera's page"],
  ["z", "Zones on or off, on a camera's page"], ["1 … 9", "Open camera 1 … 9"], ["j / k", "Next and previous alert"],
  ["j", "Judge the frame shown, on a camera's page; then d, f or u, and j again for the live picture"],
  ["Enter", "Open the focused alert; in the note, acknowledge"], ["a", "Go to the note to acknowledge"], ["d / f / u", "Judge the alert, or the selected ones: defect, false alarm, unsure"],
  ["x", "Select the focused alert, or not"], ["Esc", "Back"],
  ["?", "This help"],
];
const WORDS = [
  ["Score", "How unlike the good training images a part looks: the mean of the highest values of its heatmap"],
  ["Threshold", "Scores above it are anomalous. It was set from good images alone, for the share of false alarms that is stated with it"],
  ["Promise", "The share of good parts that may raise an alarm at this threshold; it holds while the camera shows what the training images showed"],
  ["Heatmap", "Where the picture is unlike the training images; its colours end at the value beside the scale"],
  ["Zone", "A region of the picture with its own score, threshold and alerts"],
  ["Alert", "Raised when enough of the last frames are anomalous, closed when enough are good again"],
  ["Picture fault", "A black, frozen, blurred, over-exposed or damaged picture; it is not judged"],
];
const OFF_KEY = "edgead.keys";

export const areKeysOn = () => localStorage.getItem(OFF_KEY) !== "off";

export function showHelp() {
  const box = h("input", { type: "checkbox", id: "keys-on", checked: areKeysOn() });
  box.addEventListener("change", () => localStorage.setItem(OFF_KEY, box.checked ? "on" : "off"));
  const close = h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { class: "help", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("h2", { id: "help-title" }, "Words"),
    h("dl", { class: "words" }, WORDS.map(([word, meaning]) => h("div", {}, h("dt", {}, word), h("dd", {}, meaning)))),
    h("h2", {}, "Keys"),
    h("dl", { class: "keys" }, KEYS.map(([key, words]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, words)))),
    h("p", { class: "check" }, box, h("label", { for: "keys-on" }, "Use single-key shortcuts")),
    h("div", { class: "actions" }, close));
  document.body.append(dialog);
  dialog.showModal();
  // the way out is in view from the first line on, see the style sheet
  close.focus({ preventScroll: true });
  dialog.scrollTop = 0;
}
