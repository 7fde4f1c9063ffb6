// Details of one alert: pictures, facts, judgement and acknowledgement.

import { stateOf } from "./alert_state.js";
import { get, path, send } from "./api.js";
import { facts, h, setText } from "./dom.js";
import { against, ago, duration, plural, utc } from "./format.js";
import { judge, JudgeForm, readAgain, summaryOf } from "./judging.js";
import { LearnForm } from "./learning.js";
import { cameraUrl } from "./overview.js";
import { store } from "./store.js";
import { badge } from "./verdict.js";

const KINDS = [["heatmap", "Heatmap"], ["snapshot", "Picture"], ["peak", "Peak"], ["clip", "Clip"]];
const ENDINGS = {
  quiet: "scores fell below the threshold", acknowledged: "acknowledged", end_of_stream: "the stream ended",
  model_changed: "another model took over", interrupted: "the stream was interrupted",
};

// a clip has no event: it is finished seconds after the opening, often after the alert has closed
const LOOK_MS = 2000;
const MOST_LOOKS = 150;

export class AlertDetail {
  #id;
  #record = null;
  #kind = "heatmap";
  #onChanged;
  #onJudged;
  #judgeForm = new JudgeForm("judge", (judgement, words) => this.#judge(judgement, words));
  #judged = h("div", { class: "judgement", role: "status" });
  #learnForm;
  #shown = "";
  #isClosed = false;
  #turn = 0;
  #looks = 0;
  #timer = 0;
  #title = h("h2", { id: "alert-title", tabindex: "-1" }, "Alert");
  #badge = badge();
  #media = h("div", { class: "media" });
  #choices = h("div", { class: "controls", role: "group", "aria-label": "Pictures of the alert" });
  #facts = h("div");
  #done = h("div", { class: "acknowledged", role: "status" });
  #note = h("textarea", { id: "alert-note", rows: "2", maxlength: "500" });
  #problem = h("p", { class: "problem", role: "alert" });
  #button = h("button", { class: "primary" }, "Acknowledge");
  #form;

  constructor(id, record, onChanged, onJudged) {
    this.#id = id;
    this.#onJudged = onJudged;
    this.#onChanged = onChanged;
    this.#note.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#form = h("form", { class: "acknowledge", onsubmit: (event) => this.#acknowledge(event) },
      h("p", { class: "muted" }, "Acknowledge: say that you have seen it. This ends an alert that is held."),
      h("label", { for: "alert-note" }, "Note for the acknowledgement (optional)"), this.#note,
      h("div", { class: "actions" }, this.#button, h("span", { class: "hint" }, "Press Enter to acknowledge")), this.#problem);
    this.#form.hidden = true;
    this.#learnForm = new LearnForm(id);
    this.element = h("article", { class: "card detail", "aria-labelledby": "alert-title" },
      h("div", { class: "head" }, h("a", { class: "back", href: "#/alerts", "aria-label": "All alerts" }, "←"),
        this.#title, this.#badge.element),
      this.#media, this.#choices, this.#judged, this.#learnForm.element, this.#judgeForm.element,
      this.#form, this.#done, this.#facts);
    this.#judgeForm.element.hidden = true;
    if (record) {
      this.show(record);
      this.#waitForClip();
    } else this.#load();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#media.replaceChildren();
  }

  /** Focus the note; Enter there acknowledges. */
  acknowledge() {
    if (!this.#form.hidden) this.#note.focus();
  }

  /** Store a judgement with the kind and the note of the form. */
  judge(judgement) {
    return this.#record ? this.#judgeForm.submit(judgement) : undefined;
  }

  offer(kinds) {
    this.#judgeForm.offer(kinds);
  }

  show(record) {
    const shown = JSON.stringify(record);
    if (this.#isClosed || shown === this.#shown) return;
    this.#shown = shown;
    const before = this.#record;
    this.#record = record;
    this.#badge.show(...stateOf(record));
    setText(this.#title, `${record.camera}${record.zone && record.zone !== "picture" ? `, ${record.zone}` : ""}`);
    if (JSON.stringify(before?.pictures) !== JSON.stringify(record.pictures)) this.#showChoices();
    this.#form.hidden = Boolean(record.acknowledged_at);
    this.#judgeForm.element.hidden = false;
    this.#judgeForm.show("What was it?", record.judgement);
    if (before?.n_judgements !== record.n_judgements) this.#judgeForm.fill(record.judgement_kind, record.judgement_note);
    this.#showJudged(record);
    this.#learnForm.show(record);
    this.#showDone(record);
    this.#showFacts(record);
  }

  async #load() {
    const turn = ++this.#turn;
    try {
      const record = await get(path("alerts", this.#id));
      if (turn === this.#turn) this.show(record);
    } catch (error) {
      if (!this.#isClosed && !this.#record) this.#media.replaceChildren(h("p", { class: "empty" }, error.words));
    }
    this.#waitForClip();
  }

  #waitForClip() {
    clearTimeout(this.#timer);
    const { pictures, pictures_missing: missing } = this.#record ?? {};
    if (this.#isClosed || pictures?.clip || missing?.clip || store.info?.can?.clips === false) return;
    if (this.#looks >= MOST_LOOKS) return;
    this.#timer = setTimeout(() => {
      if (document.hidden) return this.#waitForClip();
      this.#looks += 1;
      return this.#load();
    }, LOOK_MS);
  }

  #showChoices() {
    const kinds = KINDS.filter(([kind]) => this.#record.pictures?.[kind]);
    if (!kinds.some(([kind]) => kind === this.#kind)) this.#kind = kinds[0]?.[0] ?? null;
    this.#choices.replaceChildren(...kinds.map(([kind, words]) => h("button", {
      type: "button", class: "toggle", "data-kind": kind, onclick: () => this.#choose(kind) }, words)));
    this.#choose(this.#kind);
  }

  #choose(kind) {
    this.#kind = kind;
    for (const button of this.#choices.children) button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    if (kind === null) {
      this.#media.replaceChildren(h("p", { class: "empty" }, "No pictures of this alert are stored."));
      return;
    }
    const words = KINDS.find(([one]) => one === kind)[1];
    const src = path("alerts", this.#id, kind);
    const problem = () => this.#media.replaceChildren(h("p", { class: "empty" }, `${words}: no longer available.`));
    this.#media.replaceChildren(kind === "clip"
      ? h("video", { src, controls: true, loop: true, playsinline: "", preload: "metadata", "aria-label": `${words} of the alert`, onerror: problem })
      : h("a", { href: src, target: "_blank", rel: "noopener", title: "Full size" },
        h("img", { src, alt: `${words} of the alert on ${this.#record.camera}`, onerror: problem })));
  }

  #showJudged(record) {
    if (!record.judgement) return this.#judged.replaceChildren();
    return this.#judged.replaceChildren(
      h("p", {}, h("strong", {}, summaryOf(record)), " by ", record.judged_by ?? "–", " ",
        h("time", { datetime: record.judged_at, title: utc(record.judged_at) }, ago(record.judged_at))),
      record.judgement_note ? h("blockquote", {}, record.judgement_note) : "");
  }

  async #judge(judgement, words) {
    const answer = await judge([this.#record], judgement, words);
    this.#turn += 1;
    if (answer.current.length) this.show(answer.current[0]);
    else this.#load();
    if (answer.judged.length) this.#onJudged();
    this.#onChanged(answer.current);
    return answer;
  }

  #showDone(record) {
    if (!record.acknowledged_at) return this.#done.replaceChildren();
    return this.#done.replaceChildren(
      h("p", {}, "Acknowledged by ", h("strong", {}, record.acknowledged_by ?? "–"), " ",
        h("time", { datetime: record.acknowledged_at, title: utc(record.acknowledged_at) }, ago(record.acknowledged_at))),
      record.note ? h("blockquote", {}, record.note) : "");
  }

  #showFacts(record) {
    this.#facts.replaceChildren(facts([
      ["Opened", h("time", { datetime: record.opened_at }, utc(record.opened_at))],
      ["Closed", record.closed_at ? `${utc(record.closed_at)}: ${ENDINGS[record.ended_by] ?? record.ended_by}` : "not yet"],
      ["Duration", duration(record.duration_s)],
      ["Severity", record.severity ?? "–"],
      ["Peak score", against(record.peak_score ?? record.score, record.threshold)],
      ["Regions", record.regions?.length ? plural(record.regions.length, "marked region") : "–"],
      ["Camera", h("a", { href: cameraUrl(record.camera) }, record.camera)],
      ["ID", record.id],
    ]));
  }

  async #acknowledge(event) {
    event.preventDefault();
    if (this.#button.disabled) return;
    this.#button.disabled = true;
    setText(this.#problem, "");
    try {
      const record = await send("POST", path("alerts", this.#id, "acknowledge"), { note: this.#note.value.trim().replace(/\s+/g, " ") });
      // ignore answers to earlier requests: they lack the acknowledgement
      this.#turn += 1;
      this.show(record);
      this.#title.focus();
      this.#onChanged([record]);
    } catch (error) {
      setText(this.#problem, error.words);
      const current = error.status === 409 ? await readAgain(this.#id) : [];
      if (!current.length) return;
      this.#turn += 1;
      this.show(current[0]);
      this.#onChanged(current);
    } finally {
      this.#button.disabled = false;
    }
  }
}
