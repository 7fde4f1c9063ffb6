"""Slider of the report: a threshold to try, whose counts and pictures follow, in plain JavaScript inside the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgead.evaluation.evaluate import ClassResult, ScoredImage
from edgead.evaluation.report_charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, number, scores_axis
from edgead.manifest import ClassThresholds

MOST_STEPS = 600


def slider(part: ClassResult, images: Sequence[ScoredImage], thresholds: ClassThresholds) -> str:
    """Control below the histogram of a class, with the numbers that it works on; hidden where no script runs.

    Args:
        part: Results of the class.
        images: Its scored images.
        thresholds: Its thresholds, with the scores of the good images of the training.
    """
    shipped = part.metrics.threshold
    if shipped is None or not images or any(image.own_threshold is not None for image in images):
        return ""  # each image was judged by the class that was predicted for it
    return (
        '<div class="slider" hidden><label>Try another threshold: <output></output>'
        f'<input type="range" min="0" max="1000" step="1" aria-label="Threshold to try, now {number(shipped)}"></label>'
        '<p class="counts" aria-live="polite"></p><p class="soft rate"></p>'
        '<button type="button">Back to the shipped threshold</button></div>'
        f'<script type="application/json" class="numbers">{json.dumps(_numbers(part, images, thresholds, shipped))}</script>'
    )


def _numbers(
    part: ClassResult, images: Sequence[ScoredImage], thresholds: ClassThresholds, shipped: float
) -> dict[str, Any]:
    """Scores and the steps of the slider; numbers alone, so nothing in it needs escaping."""
    good = [image.pred_score for image in images if not image.gt_label]
    defective = [image.pred_score for image in images if image.gt_label]
    axis = scores_axis(np.array(good), np.array(defective), shipped)
    steps = _steps([*good, *defective], shipped)
    kinds = list(part.defects)
    return {
        "shipped": shipped,
        "steps": [_rounded(step) for step in steps],
        "places": [round(axis.position(step), 5) for step in steps],
        "start": steps.index(shipped),
        # what training has seen says nothing about false alarms
        "good": [image.pred_score for image in images if not image.gt_label and not image.was_trained_on],
        "trained": [image.pred_score for image in images if not image.gt_label and image.was_trained_on],
        "defective": [image.pred_score for image in images if image.gt_label],
        "kinds": [kinds.index(image.defect) for image in images if image.gt_label],
        "training": [_rounded(score) for score in thresholds.scores],
        "box": [LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM],
    }


def _steps(scores: Sequence[float], shipped: float) -> list[float]:
    """Rising thresholds, one between each two neighbouring scores as far as there are not too many, and the shipped one."""
    values = np.unique(np.asarray(scores, np.float64))
    margin = float(np.ptp(values)) * 0.01 or 1e-6
    between = [float(values[0]) - margin, *((values[:-1] + values[1:]) / 2).tolist(), float(values[-1]) + margin]
    if len(between) > MOST_STEPS:
        between = [between[i] for i in np.linspace(0, len(between) - 1, MOST_STEPS).round().astype(int)]
    return sorted({*between, shipped})


def _rounded(value: float) -> float:
    return float(f"{value:.7g}")


SCRIPT = """
"use strict";
(() => {
  const short = (value) => String(Number(value.toPrecision(4)));
  const share = (k, n) => n ? (100 * k / n).toFixed(1) + " %" : "–";
  const all = (root, what) => [...root.querySelectorAll(what)];
  const ORDER = {missed: 1, found: 1, alarm: -1, fine: -1};

  // only a few pictures of each group are in this file, and at another threshold more belong to it
  function pictures(section, threshold, totals) {
    for (const card of all(section, ".card[data-score]")) {
      const bad = card.dataset.bad === "1", alarm = Number(card.dataset.score) > threshold;
      const state = bad ? (alarm ? "found" : "missed") : (alarm ? "alarm" : "fine");
      const group = section.querySelector(`.cards[data-group="${state}"]`);
      card.dataset.state = state;
      const verdict = card.querySelector("figcaption b");
      verdict.textContent = {found: "found", missed: "missed", alarm: "false alarm", fine: "correctly good"}[state];
      verdict.className = bad === alarm ? "ok" : "wrong";
      card.querySelector(".sign").textContent = alarm ? ">" : "≤";
      card.querySelector(".limit").textContent = short(threshold);
      if (group && card.parentElement !== group) group.append(card);
    }
    for (const group of all(section, ".cards[data-group]")) {
      const sign = ORDER[group.dataset.group];
      const cards = all(group, ".card").sort((a, b) => sign * (a.dataset.score - b.dataset.score));
      group.append(...cards);
      const total = totals[group.dataset.group], shown = group.previousElementSibling;
      shown.textContent = cards.length < total ? `${cards.length} of ${total} shown.` : "";
      const empty = group.nextElementSibling;
      if (empty && empty.classList.contains("empty")) empty.hidden = total > 0;
    }
  }

  function charts(section, numbers, index, far, found, right) {
    const [left, end, top, bottom] = numbers.box;
    const text = short(numbers.steps[index]);
    const place = (chart, x, y) => {
      const dot = chart && chart.querySelector(".mark");
      if (!dot) return;
      const cx = left + x * (end - left), cy = bottom - y * (bottom - top), near = cx < 230;
      dot.setAttribute("cx", cx); dot.setAttribute("cy", cy);
      const label = chart.querySelector(".label");
      label.setAttribute("x", cx + (near ? 11 : -11)); label.setAttribute("y", Math.min(cy + 20, bottom - 8));
      label.setAttribute("text-anchor", near ? "start" : "end");
      return label;
    };
    const scores = section.querySelector('[data-chart="scores"]');
    const line = scores.querySelector(".threshold"), x = left + numbers.places[index] * (end - left);
    line.setAttribute("x1", x); line.setAttribute("x2", x);
    const label = scores.querySelector(".label");
    label.textContent = "threshold " + text; label.setAttribute("x", x);
    label.setAttribute("text-anchor", x < left + 70 ? "start" : x > end - 70 ? "end" : "middle");
    const roc = place(section.querySelector('[data-chart="roc"]'), far, found);
    if (roc) roc.textContent = `${(100 * found).toFixed(1)} % found, ${(100 * far).toFixed(1)} % false alarms`;
    const precision = place(section.querySelector('[data-chart="pr"]'), found, right === null ? 1 : right);
    if (precision) precision.textContent = right === null ? "no alarm" : `${(100 * right).toFixed(1)} % of alarms are correct`;
  }

  const controls = all(document, ".slider").map((root) => {
    const section = root.closest("section"), numbers = JSON.parse(section.querySelector(".numbers").textContent);
    return {root, section, numbers, input: root.querySelector("input"), index: numbers.start};
  });

  function count(control) {
    const {numbers, index} = control;
    const threshold = index === numbers.start ? numbers.shipped : numbers.steps[index];
    const above = (scores) => scores.filter((score) => score > threshold).length;
    return {index, threshold, above, isShipped: index === numbers.start, nGood: numbers.good.length,
      nBad: numbers.defective.length, alarms: above(numbers.good), found: above(numbers.defective)};
  }

  function tiles() {
    const counts = controls.map(count), sum = (key) => counts.reduce((total, one) => total + one[key], 0);
    const show = (name, k, n, what) => {
      const tile = document.querySelector(`.tile[data-tile="${name}"]`);
      tile.querySelector("b").textContent = share(k, n);
      tile.querySelector("span:last-child").textContent = `${k} of ${n} ${what}`;
    };
    show("found", sum("found"), sum("nBad"), "defective images");
    show("alarms", sum("alarms"), sum("nGood"), "good images");
  }

  function say(control, now) {
    const {root, numbers} = control;
    root.querySelector("output").textContent = short(now.threshold) + (now.isShipped ? " (shipped)" : "");
    control.input.setAttribute("aria-valuetext", `threshold ${short(now.threshold)}`);
    root.querySelector(".counts").textContent = [
      now.nBad ? `${now.found} of ${now.nBad} defective images found (${share(now.found, now.nBad)})` : "",
      now.nGood ? `${now.alarms} of ${now.nGood} good images raise a false alarm (${share(now.alarms, now.nGood)})` : "",
    ].filter(Boolean).join("; ");
    const seen = now.above(numbers.training), n = numbers.training.length;
    const rate = Math.ceil(1e4 * (seen + 1) / (n + 1)) / 1e4;
    root.querySelector(".rate").textContent = now.isShipped || rate >= 0.5 ? "Nothing here changes the bundle." :
      `Of the ${n} good images behind the threshold ${seen} lie above this one. About the same, chosen from them: ` +
      `edgead eval --false-alarm-rate ${rate}`;
    root.querySelector("button").hidden = now.isShipped;
  }

  function update(control) {
    const {section, numbers} = control, now = count(control);
    say(control, now);
    for (const row of all(section, "tr[data-kind]")) {
      const members = numbers.defective.filter((_, i) => numbers.kinds[i] === Number(row.dataset.kind));
      row.querySelector(".bar i").style.width = `${100 * now.above(members) / members.length}%`;
      row.querySelector(".share").textContent = share(now.above(members), members.length);
      row.querySelector(".interval").style.visibility = now.isShipped ? "" : "hidden";
    }
    const {alarms, found} = now;
    charts(section, numbers, now.index, alarms / (now.nGood || 1), found / (now.nBad || 1),
      alarms + found ? found / (alarms + found) : null);
    const good = [...numbers.good, ...numbers.trained], called = now.above(good);
    pictures(section, now.threshold, {found, missed: now.nBad - found, alarm: called, fine: good.length - called});
    if (controls.length === Number(document.querySelector(".tiles").dataset.classes)) tiles();
  }

  // the thumb stands below the line of the chart; arrow keys go from one score to the next
  function go(control, index) {
    const {places} = control.numbers;
    control.index = Math.max(0, Math.min(places.length - 1, index));
    control.input.value = places[control.index] * control.input.max;
    update(control);
  }

  for (const control of controls) {
    const {input, numbers} = control;
    input.value = numbers.places[numbers.start] * input.max;
    control.root.hidden = false;
    say(control, count(control));
    input.addEventListener("input", () => {
      const x = input.value / input.max;
      const nearest = (best, place, i) => Math.abs(place - x) < Math.abs(numbers.places[best] - x) ? i : best;
      control.index = numbers.places.reduce(nearest, 0);
      update(control);
    });
    input.addEventListener("keydown", (event) => {
      const step = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1}[event.key];
      if (!step) return;
      event.preventDefault();
      go(control, control.index + step);
    });
    control.root.querySelector("button").addEventListener("click", () => {
      go(control, numbers.start);
      input.focus();
    });
  }
})();
"""
