// The list of alerts, newest first; details open beside it, or on a phone in its place. The list is also the review queue:
// keys judge the alert in focus, or all that are selected.

import { AlertDetail } from "./alert_detail.js";
import { alertUrl, STATES, stateOf } from "./alert_state.js";
import { get, path } from "./api.js";
import { h, setClass, setText } from "./dom.js";
import { against, ago, count, duration, plural, utc } from "./format.js";
import { FILTERS, judge, JudgeForm, JUDGEMENTS, summaryOf } from "./judging.js";
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
  #isReviewOver = false;
  #rows = new Map();
  #state = h("select", { "aria-label": "State" });
  #camera = h("select", { "aria-label": "Camera" });
  #judgement = h("select", { "aria-label": "Judgement" });
  #selected = new Set();
  #bulk = new JudgeForm("selected", (judgement, words) => this.#judgeSelected(judgement, words));
  #all = h("button", { type: "button", onclick: () => this.#selectAll() });
  #hint = h("p", { class: "hint keys-hint" }, [...JUDGEMENTS.map(([, words, key]) => [key, words]), ["x", "select"], ["j", "next"], ["k", "previous"]]
    .flatMap(([key, words]) => [h("span", {}, h("kbd", {}, key), ` ${words}`), " "]));
  #list = h("ul", { class: "alert-list" });
  #empty = h("p", { class: "empty" }, "Loading …");
  #more = h("button", { type: "button", onclick: () => this.#load(true) }, "Older alerts");
  #side = h("div", { class: "alert-side" });
  #problem = h("p", { class: "problem", role: "alert" });
  #waitingWords = h("span");
  #waiting = h("p", { class: "waiting" }, this.#waitingWords, " ", h("button", { type: "button", onclick: () => this.#review() }, "Review them"));
  #detail = null;
  #turn = 0;
  #timer;
  #onAlert = () => this.#load();

  constructor(root, id, filters) {
    this.#id = id ?? null;
    this.#filters = filters;
    this.#state.append(...STATES.map(([value, words]) => h("option", { value }, words)));
    this.#state.value = filters.state;
    this.#judgement.append(...FILTERS.map(([value, words]) => h("option", { value }, words)));
    this.#judgement.value = filters.judgement;
    for (const select of [this.#state, this.#camera, this.#judgement]) select.addEventListener("change", () => this.#filter());
    this.#more.hidden = this.#waiting.hidden = true;
    this.#fillCameras();
    this.element = h("div", { class: "alerts" },
      h("div", { class: "alert-main" },
        h("div", { class: "head" }, h("h1", {}, "Alerts"), h("div", { class: "filters" }, this.#state, this.#camera, this.#judgement)),
        this.#waiting, h("div", { class: "review" }, this.#all, this.#hint), this.#problem, this.#bulk.element, this.#empty, this.#list, h("p", {}, this.#more)),
      this.#side);
    root.append(this.element);
    for (const kind of ["alert", "listening"]) store.addEventListener(kind, this.#onAlert);
    this.#timer = setInterval(() => this.#tick(), CLOCK_MS);
    this.keys = { j: () => this.#step(1), k: () => this.#step(-1), a: () => this.#detail?.acknowledge(), x: () => this.#toggleFocused() };
    for (const [judgement, , key] of JUDGEMENTS) this.keys[key] = () => this.#judgeByKey(judgement);
    this.#showSelection();
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
    Object.assign(this.#filters, { state: this.#state.value, camera: this.#camera.value, judgement: this.#judgement.value });
    this.#selected.clear();
    this.#records = [];
    this.#isReviewOver = false;
    this.#waiting.hidden ||= this.#isReview();
    this.#load();
  }

  #review() {
    this.#judgement.value = "review";
    this.#filter();
    this.#judgement.focus();
  }

  #isReview = () => ["review", "unjudged"].includes(this.#filters.judgement);

  /** Show the number of unjudged alerts on all cameras, with a button to review them. */
  async #showWaiting() {
    const info = await get(path("info")).catch(() => null);
    if (!info) return;
    const number = info.judged.unjudged;
    this.#waiting.hidden = !number || this.#isReview();
    setText(this.#waitingWords, number === 1 ? "1 alert waits for a judgement." : `${count(number)} alerts wait for a judgement.`);
  }

  async #load(isOlder = false) {
    const turn = ++this.#turn;
    this.#showWaiting();
    try {
      const answer = await this.#page(isOlder);
      if (turn !== this.#turn) return;
      const fresh = answer.alerts;
      // alerts loaded by "Older alerts" stay when newer ones arrive; the order is that of arrival, not of the ids
      const ids = new Set(fresh.map((record) => record.id));
      const last = this.#records.findLastIndex((record) => ids.has(record.id));
      const older = fresh.length === LIMIT && last >= 0 ? this.#records.slice(last + 1) : [];
      const isRefresh = !isOlder && older.length > 0;
      // in the review queue, an alert judged since it was loaded comes again among the judged ones
      this.#records = isOlder ? [...this.#records.filter((record) => !ids.has(record.id)), ...fresh] : [...fresh, ...older];
      if (!isRefresh) [this.#next, this.#isReviewOver] = [answer.next, answer.isReviewOver];
      this.#more.hidden = !this.#next;
      this.#show();
    } catch (error) {
      if (turn === this.#turn && !this.#records.length) setText(this.#empty, error.words ?? "The alerts could not be loaded.");
    }
  }

  /** Take over what the device has answered, also of alerts beyond the first page, which `#load` does not read again. */
  #merge(current) {
    const answered = new Map(current.map((record) => [record.id, record]));
    const { state, judgement } = this.#filters;
    const fits = (record) => (!state || record.state === state)
      && (["", "review"].includes(judgement) || (judgement === "unjudged" ? !record.judgement : record.judgement === judgement));
    this.#records = this.#records.map((record) => answered.get(record.id) ?? record)
      .filter((record) => !answered.has(record.id) || fits(record));
    return this.#load();
  }

  /** A page of the list, and whether the unjudged alerts of the review queue end with it; the judged ones follow them. */
  async #page(isOlder) {
    const isReview = this.#filters.judgement === "review";
    const ask = (judgement, before, limit) => {
      const query = new URLSearchParams({ limit: String(limit) });
      for (const [key, value] of Object.entries({ ...this.#filters, judgement, before })) if (value) query.set(key, value);
      return get(`${path("alerts")}?${query}`);
    };
    if (!isReview) return { ...await ask(this.#filters.judgement, isOlder ? this.#next : "", LIMIT), isReviewOver: false };
    const isOver = isOlder && this.#isReviewOver;
    const first = isOver ? { alerts: [], next: null } : await ask("unjudged", isOlder ? this.#next : "", LIMIT);
    if (first.next) return { ...first, isReviewOver: false };
    const rest = await ask("judged", isOver ? this.#next : "", Math.max(1, LIMIT - first.alerts.length));
    return { alerts: [...first.alerts, ...rest.alerts], next: rest.next, isReviewOver: true };
  }

  #show() {
    this.#empty.hidden = this.#records.length > 0;
    const isFiltered = this.#filters.state || this.#filters.camera || !["", "review"].includes(this.#filters.judgement);
    setText(this.#empty, isFiltered ? "No alerts match. Choose other filters to see more." : "No alerts yet. Parts that look different from good ones appear here.");
    const focused = this.#records.find((record) => this.#rows.get(record.id)?.contains(document.activeElement))?.id;
    const old = this.#rows;
    this.#rows = new Map(this.#records.map((record) => {
      const shown = JSON.stringify(record);
      const row = old.get(record.id);
      return [record.id, row?.shown === shown ? row : Object.assign(alertRow(record, (isOn) => this.#select(record.id, isOn)), { shown })];
    }));
    for (const id of this.#selected) if (!this.#rows.has(id)) this.#selected.delete(id);
    const rows = [...this.#rows.values()];
    if (rows.length !== this.#list.children.length || rows.some((row, index) => this.#list.children[index] !== row)) {
      this.#list.replaceChildren(...rows);
      if (focused) (this.#rows.get(focused) ?? rows[0])?.querySelector("a").focus();
    }
    this.#mark();
    this.#showSelection();
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
      this.#side.replaceChildren(h("p", { class: "empty" }, "Select an alert to see its pictures and to say what it was."));
      return;
    }
    this.#detail = new AlertDetail(this.#id, this.#records.find((record) => record.id === this.#id),
      (current) => this.#merge(current), () => this.#step(1));
    this.#detail.offer(this.#kinds());
    this.#side.replaceChildren(this.#detail.element);
  }

  #kinds() {
    return [...new Set(this.#records.map((record) => record.judgement_kind).filter(Boolean))].slice(0, 50);
  }

  #select(id, isOn) {
    if (isOn) this.#selected.add(id);
    else this.#selected.delete(id);
    this.#showSelection();
  }

  #selectAll() {
    const isAll = this.#records.every((record) => this.#selected.has(record.id));
    this.#selected = new Set(isAll ? [] : this.#records.map((record) => record.id));
    this.#showSelection();
  }

  #showSelection() {
    const number = this.#selected.size;
    const isAll = number > 0 && this.#records.every((record) => this.#selected.has(record.id));
    this.#all.hidden = this.#hint.hidden = !this.#records.length;
    setText(this.#all, isAll ? "Select none" : "Select all");
    this.#bulk.element.hidden = number === 0;
    // a kind and a note are about the alerts they were typed for
    if (number === 0) this.#bulk.clear();
    this.#bulk.show(`Judge ${plural(number, "selected alert")}`);
    this.#bulk.offer(this.#kinds());
    for (const [id, row] of this.#rows) row.querySelector("input").checked = this.#selected.has(id);
  }

  #focused() {
    const focused = this.#records.find((record) => this.#rows.get(record.id)?.contains(document.activeElement));
    return focused ?? this.#records.find((record) => record.id === this.#id);
  }

  #toggleFocused() {
    const record = this.#focused();
    if (record) this.#select(record.id, !this.#selected.has(record.id));
  }

  async #judgeSelected(judgement, words) {
    const answer = await judge(this.#records.filter((record) => this.#selected.has(record.id)), judgement, words);
    for (const record of answer.judged) this.#selected.delete(record.id);
    await this.#merge(answer.current);
    // the form goes with the selection
    if (!this.#selected.size) setText(this.#problem, answer.problems.join(" "));
    return answer;
  }

  async #judgeByKey(judgement) {
    if (this.#selected.size) return this.#bulk.submit(judgement);
    const record = this.#focused();
    if (!record) return undefined;
    if (record.id === this.#id) return this.#detail.judge(judgement);
    const { judged, current, problems } = await judge([record], judgement, { kind: record.judgement_kind ?? "", note: record.judgement_note ?? "" });
    if (judged.length) this.#step(1);
    setText(this.#problem, problems.join(" "));
    return this.#merge(current);
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

function alertRow(record, onSelect) {
  const [verdict, words] = stateOf(record);
  const mark = badge();
  mark.show(verdict, words);
  const picture = record.pictures?.heatmap ? "heatmap" : record.pictures?.snapshot ? "snapshot" : null;
  const where = record.zone && record.zone !== "picture" ? `${record.camera}, ${record.zone}` : record.camera;
  const box = h("input", { type: "checkbox", "aria-label": `Select the alert on ${where}, ${utc(record.opened_at)}` });
  box.addEventListener("change", () => onSelect(box.checked));
  const judged = summaryOf(record);
  const row = h("li", { class: "alert-item" }, h("span", { class: "pick" }, box), h("a", { class: "alert-row", href: alertUrl(record.id) },
    picture ? h("img", { class: "thumb", src: path("alerts", record.id, picture), alt: "", loading: "lazy" })
      : h("span", { class: "thumb" }),
    h("span", { class: "alert-words" },
      h("strong", {}, where), mark.element,
      h("span", { class: "muted" },
        h("time", { datetime: record.opened_at, title: utc(record.opened_at) }, ago(record.opened_at)),
        record.duration_s === null || record.duration_s === undefined ? "" : `, for ${duration(record.duration_s)}`),
      h("span", {}, record.severity ? h("span", { class: "severity" }, record.severity) : "",
        `peak ${against(record.peak_score ?? record.score, record.threshold)}`),
      judged ? h("span", { class: "judged" }, judged) : "")));
  setClass(row, "is-", verdict);
  return row;
}
