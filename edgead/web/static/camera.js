// One camera: live picture with zones, score history, health and threshold.

import { alertUrl } from "./alert_state.js";
import { get, path } from "./api.js";
import { Collecting } from "./collecting.js";
import { facts, h, setText, svg } from "./dom.js";
import { against, count, ms, percent, sentence } from "./format.js";
import { FRAME_JUDGEMENTS, FrameJudging } from "./frame_judging.js";
import { legend } from "./legend.js";
import { levelBar } from "./level.js";
import { LivePicture, staleWords } from "./picture.js";
import { camera as find, store } from "./store.js";
import { teachLink } from "./teaching.js";
import { PICTURE, ThresholdPanel } from "./threshold.js";
import { Trace } from "./trace.js";
import { badge, isGone, worstZone } from "./verdict.js";

const TRACE_EVERY_MS = 2000;
const SPANS = [[120, "2 min"], [600, "10 min"], [3600, "1 h"]];

export function open(root, { name }) {
  const first = find(name);
  if (!first) {
    const empty = h("p", { class: "empty" }, store.isLoaded ? `No camera is named ${name}.` : "Waiting for the device …");
    root.append(h("h1", {}, name), empty, h("p", {}, h("a", { href: "#/" }, "All cameras")));
    return { title: () => name, isStale: () => Boolean(find(name)), update() {}, close() {} };
  }
  return new CameraView(root, first);
}

class CameraView {
  #name;
  #zone;
  #zonesShown = "";
  #badge = badge();
  #since = h("p", { class: "picture-note" });
  #overlay = svg("svg", { class: "zones", "aria-hidden": "true" });
  #legend = legend();
  #trace = new Trace();
  #zones = h("div", { class: "zone-list" });
  #zoneBars = new Map();
  #health = h("div");
  #healthWords = h("p");
  #warning = h("p", { class: "camera-warning", role: "status" });
  #alertLine = h("p", { class: "alert-line" });
  #heatmap = toggle("Heatmap", "h", (isOn) => this.#showHeatmap(isOn), true);
  #zonesToggle = toggle("Zones", "z", (isOn) => this.#overlay.classList.toggle("is-shown", isOn));
  #seconds = 600;
  #threshold;
  #picture;
  #judging;
  #collecting;
  #timer = 0;
  #isClosed = false;

  constructor(root, camera) {
    this.#name = camera.name;
    this.#zone = worstZone(camera).name;
    this.#threshold = new ThresholdPanel(camera.name, () => this.#loadTrace(), (value) => this.#trace.propose(value), () => this.#seconds);
    const image = h("img", { alt: `Live picture of ${camera.name}` });
    const picture = h("div", { class: "picture is-large" }, image, this.#overlay, this.#since);
    this.#picture = new LivePicture(image, camera.name, {
      heatmap: true, width: 1280, perSecond: 10, onPicture: (age) => this.#note(staleWords(age), true), onNone: (words) => this.#note(words, false),
    });
    this.#judging = new FrameJudging(camera.name, this.#picture);
    this.#collecting = new Collecting(camera.name);
    root.append(
      h("div", { class: "head" }, h("a", { class: "back", href: "#/", "aria-label": "All cameras" }, "←"),
        h("h1", {}, camera.name), this.#badge.element, this.#alertLine),
      this.#warning,
      h("div", { class: "columns" },
        h("div", { class: "wide" },
          h("section", { class: "card", "aria-label": "Live picture" }, picture,
            h("div", { class: "controls" }, this.#heatmap.element, this.#zonesToggle.element, this.#judging.button, this.#collecting.button, teachLink(camera.name)),
            this.#judging.element, this.#collecting.element, this.#legend.element),
          h("section", { class: "card", "aria-labelledby": "scores-title" },
            h("div", { class: "controls" }, h("h2", { id: "scores-title" }, "Scores"), this.#spans()), this.#trace.element)),
        h("div", { class: "narrow" },
          h("section", { class: "card", "aria-labelledby": "zones-title" }, h("h2", { id: "zones-title" }, "Zones"), this.#zones),
          this.#threshold.element,
          h("section", { class: "card", "aria-labelledby": "health-title" },
            h("h2", { id: "health-title" }, "Health"), this.#healthWords,
            h("details", { class: "change" }, h("summary", {}, "Details"), this.#health)))));
    this.#legend.element.classList.add("is-on");
    this.#picture.start();
    this.keys = { h: () => this.#heatmap.flip(), z: () => this.#zonesToggle.flip(), j: () => this.#judging.flip() };
    for (const [judgement, , key] of FRAME_JUDGEMENTS) this.keys[key] = () => this.#judging.judge(judgement);
    this.escape = "#/";
    this.update();
    this.#follow();
  }

  title = () => this.#name;

  update() {
    const camera = find(this.#name);
    if (!camera) return;
    this.#badge.show(camera.verdict);
    setText(this.#healthWords, healthSentence(camera));
    const warning = isGone(camera) ? camera.last_error : camera.unlike?.replace(`${PICTURE}: `, "");
    setText(this.#warning, sentence(warning));
    this.#warning.hidden = !warning;
    this.#legend.show(camera.scale);
    this.#showZones(camera);
    this.#showAlert(camera);
    this.#threshold.show(camera.zones.find((zone) => zone.name === this.#zone) ?? camera.zones[0], Boolean(camera.unlike));
    this.#health.replaceChildren(healthFacts(camera));
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#judging.close();
    this.#collecting.close();
    this.#picture.stop();
    this.#trace.stop();
    this.#threshold.close();
  }

  #note(words, hasPicture) {
    setText(this.#since, words);
    this.#judging.hasPicture = hasPicture;
  }

  #showHeatmap(isOn) {
    this.#picture.heatmap = isOn;
    this.#legend.element.classList.toggle("is-on", isOn);
  }

  #spans() {
    const select = h("select", { "aria-label": "Time span of the scores" }, SPANS.map(([seconds, words]) =>
      h("option", { value: String(seconds) }, words)));
    select.value = String(this.#seconds);
    select.addEventListener("change", () => {
      this.#seconds = Number(select.value);
      this.#loadTrace();
    });
    return select;
  }

  #showZones(camera) {
    const [height, width] = camera.size ?? [3, 4];
    const corners = camera.zones.map((zone) => [zone.name, zone.include, zone.exclude]);
    const shapes = JSON.stringify([this.#zone, width, height, corners]);
    if (shapes !== this.#zonesShown) {
      this.#zonesShown = shapes;
      const hadFocus = this.#zones.contains(document.activeElement);
      this.#zoneBars = new Map(camera.zones.map((zone) => [zone.name, zoneRow(zone, this.#zone, (name) => {
        this.#zone = name;
        this.update();
        this.#loadTrace();
      })]));
      this.#zones.replaceChildren(...[...this.#zoneBars.values()].map((row) => row.element));
      if (hadFocus) this.#zones.querySelector("[aria-pressed=true]").focus();
      this.#overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.#overlay.parentElement.style.aspectRatio = `${width} / ${height}`;
      this.#overlay.replaceChildren(
        ...camera.zones.flatMap((zone) => polygons(zone, zone.name === this.#zone, width, height)));
      this.#zonesToggle.element.hidden = !camera.zones.some((zone) => zone.include.length + zone.exclude.length);
    }
    for (const zone of camera.zones) this.#zoneBars.get(zone.name).show(zone);
  }

  #showAlert(camera) {
    const alerts = camera.zones.filter((zone) => zone.alert);
    const words = alerts.map((zone) => `${zone.name} ${zone.alert.id}`).join();
    if (this.#alertLine.dataset.shown === words) return;
    this.#alertLine.dataset.shown = words;
    this.#alertLine.replaceChildren(...alerts.map((zone) =>
      h("a", { class: "button", href: alertUrl(zone.alert.id) }, alerts.length > 1 ? `Show alert in ${zone.name}` : "Show alert")));
  }

  async #loadTrace() {
    const zone = this.#zone;
    try {
      const query = `?zone=${encodeURIComponent(zone)}&seconds=${this.#seconds}`;
      const scores = await get(`${path("cameras", this.#name, "scores")}${query}`);
      if (zone === this.#zone && !this.#isClosed) this.#trace.show(scores, this.#seconds);
    } catch {
      // retried at the next turn
    }
  }

  async #follow() {
    if (!document.hidden) await this.#loadTrace();
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#follow(), TRACE_EVERY_MS);
  }
}

function toggle(label, key, onFlip, isOnAtFirst = false) {
  const element = h("button", { type: "button", class: "toggle", "aria-pressed": String(isOnAtFirst), "aria-keyshortcuts": key },
    label, " ", h("kbd", { "aria-hidden": "true" }, key));
  const flip = () => {
    const isOn = element.getAttribute("aria-pressed") === "false";
    element.setAttribute("aria-pressed", String(isOn));
    onFlip(isOn);
  };
  element.addEventListener("click", flip);
  return { element, flip: () => element.hidden || flip() };
}

function zoneRow(zone, chosen, onChoose) {
  const bar = levelBar(`Score in ${zone.name}`);
  const value = h("span", { class: "zone-score" });
  const element = h("div", { class: "zone-row" },
    h("button", { type: "button", class: "plain", "aria-pressed": String(zone.name === chosen), onclick: () => onChoose(zone.name) },
      zone.name === PICTURE ? "whole picture" : zone.name), value, bar.element);
  return {
    element,
    show(now) {
      setText(value, against(now.score, now.threshold));
      element.classList.toggle("is-above", now.is_anomalous);
      bar.show(now);
    },
  };
}

function polygons(zone, isChosen, width, height) {
  const draw = (corners, kind) => svg("polygon", {
    points: corners.map(([x, y]) => `${x * width},${y * height}`).join(" "), class: `${kind}${isChosen ? " is-chosen" : ""}` });
  return [...zone.include.map((corners) => draw(corners, "include")), ...zone.exclude.map((corners) => draw(corners, "exclude"))];
}

/** "Judging 25.0 frames per second, 40 ms after each was taken; none was skipped." */
export function healthSentence(camera) {
  if (camera.fault) return `The pictures have a fault: ${camera.fault}.`;
  if (isGone(camera)) return sentence(camera.last_error) || "The camera delivers no pictures.";
  if (!camera.n_judged) return "No frame has been judged yet.";
  const delay = camera.delay_ms ? `, ${ms(camera.delay_ms.p50)} after each was taken` : "";
  const lost = camera.n_dropped + camera.n_unjudged;
  const share = lost / Math.max(1, camera.n_captured);
  const skipped = lost ? `${count(lost)} of ${count(camera.n_captured)} (${percent(share)}) were skipped` : "none was skipped";
  return `Judging ${camera.fps.toFixed(1)} frames per second${delay}; ${skipped}.`;
}

export function healthFacts(camera) {
  const lost = camera.n_dropped + camera.n_unjudged;
  return facts([
    ["State", camera.fault ? `${camera.state}, ${camera.fault}` : camera.state],
    ["Frames per second", camera.fps === null ? "–" : camera.fps.toFixed(1)],
    ["Delay, median / 95 %", camera.delay_ms ? `${ms(camera.delay_ms.p50)} / ${ms(camera.delay_ms.p95)}` : "–"],
    ["Judged / captured", `${count(camera.n_judged)} of ${count(camera.n_captured)}`],
    ["Skipped", lost ? `${count(camera.n_dropped)} replaced by newer frames, ${count(camera.n_unjudged)} not judged` : "none"],
    ["Alerts since start", count(camera.n_alerts)],
    ["Restarts", count(camera.restarts)],
    ["Frame size", camera.size ? `${camera.size[1]} × ${camera.size[0]} px` : "–"],
    ["Source", camera.source],
    ["Class", camera.class ?? "common threshold"],
    camera.last_error ? ["Last error", camera.last_error] : null,
  ].filter(Boolean));
}
