// The list of alerts, newest first; details open beside it, or on a phone in its place.

import { AlertDetail } from "./alert_detail.js";
import { alertUrl, STATES, stateOf } from "./alert_state.js";
import { get, path } from "./api.js";
import { h, setClass, setText } from "./dom.js";
import { ago, duration, score, utc } from "./format.js";
import { store } from "./store.js";
import { badge } from "./verdict.js";

const LIMIT = 50;
const CLOCK_MS = 10000;

export function open(root, { id, filters }) {
  return new AlertsView(root, id, filters);
}

class AlertsView {
  #id;
  #filters;
  #records = [];
  #next = null;
  #rows = new Map();
  #state = h("select", { "aria-label": "State" });
  #camera = h("select", { "aria-label": "Camera" });
  #list = h("ul", { class: "alert-list" });
  #empty = h("p", { class: "empty" }, "Loading …");
  #more = h("button", { type: "button", onclick: () => this.#load(true) }, "Older alerts");
  #side = h("div", { class: "alert-side" });
  #detail = null;
  #turn = 0;
  #timer;
  #onAlert = () => this.#load();

  constructor(root, id, filters) {
    this.#id = id ?? null;
    this.#filters = filters;
    this.#state.append(...STATES.map(([value, words]) => h("option", { value }, words)));
    this.#state.value = filters.state;
    for (const select of [this.#state, this.#camera]) select.addEventListener("change", () => this.#filter());
    this.#more.hidden = true;
    this.#fillCameras();
    this.element = h("div", { class: "alerts" },
      h("div", { class: "alert-main" },
        h("div", { class: "head" }, h("h1", {}, "Alerts"), h("div", { class: "filters" }, this.#state, this.#camera)),
        this.#empty, this.#list, h("p", {}, this.#more)),
      this.#side);
    root.append(this.element);
    for (const kind of ["alert", "listening"]) store.addEventListener(kind, this.#onAlert);
    this.#timer = setInterval(() => this.#tick(), CLOCK_MS);
    this.keys = { j: () => this.#step(1), k: () => this.#step(-1), a: () => this.#detail?.acknowledge() };
    this.#load();
    this.#showDetail();
  }

  title = () => "Alerts";

  update() {
    this.#fillCameras();
  }

  /** Show another alert of the same list; the list keeps its scroll position. */
  choose(id) {
    this.#id = id ?? null;
    this.#mark();
    this.#showDetail();
  }

  get escape() {
    return this.#id ? "#/alerts" : "#/";
  }

  close() {
    this.#turn += 1;
    clearInterval(this.#timer);
    for (const kind of ["alert", "listening"]) store.removeEventListener(kind, this.#onAlert);
    this.#detail?.close();
  }

  #fillCameras() {
    const names = ["", ...store.cameras.map((camera) => camera.name)];
    if (names.length === this.#camera.options.length) return;
    this.#camera.replaceChildren(...names.map((name) => h("option", { value: name }, name || "All cameras")));
    this.#camera.value = this.#filters.camera;
  }

  #filter() {
    Object.assign(this.#filters, { state: this.#state.value, camera: this.#camera.value });
    this.#load();
  }

  async #load(isOlder = false) {
    const turn = ++this.#turn;
    const query = new URLSearchParams({ limit: String(LIMIT) });
    for (const [key, value] of Object.entries(this.#filters)) if (value) query.set(key, value);
    if (isOlder && this.#next) query.set("before", this.#next);
    try {
      const answer = await get(`${path("alerts")}?${query}`);
      if (turn !== this.#turn) return;
      const fresh = answer.alerts;
      // alerts loaded by "Older alerts" stay when newer ones arrive; the order is that of arrival, not of the ids
      const ids = new Set(fresh.map((record) => record.id));
      const last = this.#records.findLastIndex((record) => ids.has(record.id));
      const older = fresh.length === LIMIT && last >= 0 ? this.#records.slice(last + 1) : [];
      const isRefresh = !isOlder && older.length > 0;
      this.#records = isOlder ? [...this.#records, ...fresh] : [...fresh, ...older];
      if (!isRefresh) this.#next = answer.next;
      this.#more.hidden = !this.#next;
      this.#show();
    } catch (error) {
      if (turn === this.#turn && !this.#records.length) setText(this.#empty, error.words ?? "The alerts could not be loaded.");
    }
  }

  #show() {
    this.#empty.hidden = this.#records.length > 0;
    const isFiltered = this.#filters.state || this.#filters.camera;
    setText(this.#empty, isFiltered ? "No alerts match." : "No alerts yet. Parts that look different from good ones appear here.");
    const focused = this.#records.find((record) => this.#rows.get(record.id)?.contains(document.activeElement))?.id;
    const old = this.#rows;
    this.#rows = new Map(this.#records.map((record) => {
      const shown = JSON.stringify(record);
      const row = old.get(record.id);
      return [record.id, row?.shown === shown ? row : Object.assign(alertRow(record), { shown })];
    }));
    const rows = [...this.#rows.values()];
    if (rows.length !== this.#list.children.length || rows.some((row, index) => this.#list.children[index] !== row)) {
      this.#list.replaceChildren(...rows);
      if (focused) this.#rows.get(focused)?.querySelector("a").focus();
    }
    this.#mark();
    const chosen = this.#records.find((record) => record.id === this.#id);
    if (chosen) this.#detail?.show(chosen);
  }

  #mark() {
    for (const [id, row] of this.#rows) {
      const link = row.querySelector("a");
      if (id === this.#id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    this.element.classList.toggle("has-detail", this.#id !== null);
  }

  #showDetail() {
    this.#detail?.close();
    this.#detail = null;
    if (!this.#id) {
      this.#side.replaceChildren(h("p", { class: "empty" }, "Select an alert to see its pictures."));
      return;
    }
    this.#detail = new AlertDetail(this.#id, this.#records.find((record) => record.id === this.#id), () => this.#load());
    this.#side.replaceChildren(this.#detail.element);
  }

  #tick() {
    for (const time of this.#list.querySelectorAll("time")) setText(time, ago(time.dateTime));
  }

  /** Keys j and k: move the focus along the list; if details are open, open those of the next alert. */
  #step(by) {
    const ids = this.#records.map((record) => record.id);
    const focused = ids.findIndex((id) => this.#rows.get(id).contains(document.activeElement));
    const from = focused >= 0 ? focused : ids.indexOf(this.#id);
    const index = from < 0 ? 0 : Math.min(ids.length - 1, Math.max(0, from + by));
    if (!ids.length) return;
    this.#rows.get(ids[index]).querySelector("a").focus();
    if (this.#id) location.replace(alertUrl(ids[index]));
  }
}

function alertRow(record) {
  const [verdict, words] = stateOf(record);
  const mark = badge();
  mark.show(verdict, words);
  const picture = record.pictures?.heatmap ? "heatmap" : record.pictures?.snapshot ? "snapshot" : null;
  const where = record.zone && record.zone !== "picture" ? `${record.camera}, ${record.zone}` : record.camera;
  const row = h("li", {}, h("a", { class: "alert-row", href: alertUrl(record.id) },
    picture ? h("img", { class: "thumb", src: path("alerts", record.id, picture), alt: "", loading: "lazy" })
      : h("span", { class: "thumb" }),
    h("span", { class: "alert-words" },
      h("strong", {}, where), mark.element,
      h("span", { class: "muted" },
        h("time", { datetime: record.opened_at, title: utc(record.opened_at) }, ago(record.opened_at)),
        record.duration_s === null || record.duration_s === undefined ? "" : `, for ${duration(record.duration_s)}`),
      h("span", {}, record.severity ? h("span", { class: "severity" }, record.severity) : "",
        `peak ${score(record.peak_score ?? record.score)} of ${score(record.threshold)}`))));
  setClass(row, "is-", verdict);
  return row;
}
