// Teaching a new part on one camera: show good parts, watch their left-out scores, read the verdict, install, undo.

import { get, path, send } from "./api.js";
import { facts, h, setText } from "./dom.js";
import { count, duration, percent, plural } from "./format.js";
import { LeftOutChart } from "./left_out.js";
import { LivePicture, staleWords } from "./picture.js";
import { camera as find, store } from "./store.js";

const ASK_MS = 1000;
const SILENT_S = 5;
const LEAST = 5;
const RUNNING = ["opening", "collecting", "fitting", "installing"];
const LEFT_OUT = {
  moving: "In motion", "near-copy": "Of a part shown before", black: "Black", "over-exposed": "Over-exposed", blurred: "Blurred",
  frozen: "Frozen camera", damaged: "Damaged on the way", dropped: "Like one left out by hand", enough: "After the last that fits",
};

export const teachUrl = (name) => `#/teach/${encodeURIComponent(name)}`;

/** Link from a camera's page; hidden where the stream does not teach. */
export function teachLink(name) {
  const link = h("a", { class: "button", href: teachUrl(name), hidden: true }, "Teach a new part");
  get(path("cameras", name, "teaching")).then((state) => {
    link.hidden = false;
    if (RUNNING.includes(state.state)) setText(link, `Teaching (${plural(state.pictures.length, "part")})`);
  }, () => {});
  return link;
}

export function open(root, { name }) {
  if (find(name)) return new TeachingView(root, name);
  root.append(h("h1", {}, `Teach a new part on ${name}`), h("p", { class: "empty" }, store.isLoaded ? `No camera is named ${name}.` : "Waiting for the device …"));
  return { title: () => `Teach ${name}`, isStale: () => Boolean(find(name)), update() {}, close() {} };
}

class TeachingView {
  #name;
  #state = null;
  #models = null;
  #timer = 0;
  #isBusy = false;
  #isClosed = false;
  #picture;
  #note = h("p", { class: "picture-note" });
  #number = h("p", { class: "taught-number", role: "status" });
  #words = h("p");
  #last = h("p", { class: "hint taught-last" });
  #progress = h("progress", { hidden: true });
  #pass = h("input", { type: "checkbox", id: "teach-pass" });
  #passRow = h("p", { class: "check", hidden: true }, this.#pass, h("label", { for: "teach-pass" }, "Parts pass by without stopping"));
  #problem = h("p", { class: "problem", role: "alert" });
  #warning = h("p", { class: "hint" });
  #chart = new LeftOutChart();
  #leftOut = h("div");
  #verdict = h("div");
  #verdictCard = h("section", { class: "card", "aria-labelledby": "verdict-title", hidden: true }, h("h2", { id: "verdict-title" }, "Verdict"), this.#verdict);
  #pictures = h("ul", { class: "taught-pictures" });
  #picturesCard = h("section", { class: "card", "aria-labelledby": "taught-title", hidden: true }, h("h2", { id: "taught-title" }, "Accepted pictures"),
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Pictures, newest first" }, this.#pictures));
  #buttons = {
    finish: button("Finish", () => this.#do("POST", "finish"), "primary"),
    install: button("Install and activate", () => this.#do("POST", "install"), "primary"),
    undo: button("Undo: bring the model before back", () => this.#undo()),
    more: button("Show more parts", () => this.#start(true)),
    begin: button("Teach a new part", () => this.#start(false)),
    cancel: button("Cancel", () => this.#do("DELETE")),
  };

  constructor(root, name) {
    this.#name = name;
    const image = h("img", { alt: `Live picture of ${name}` });
    this.#picture = new LivePicture(image, name, {
      width: 1280, perSecond: 10, onPicture: (age) => setText(this.#note, staleWords(age)), onNone: (words) => setText(this.#note, words),
    });
    this.escape = `#/camera/${encodeURIComponent(name)}`;
    root.append(
      h("div", { class: "head" }, h("a", { class: "back", href: this.escape, "aria-label": name }, "←"), h("h1", {}, `Teach a new part on ${name}`)),
      h("div", { class: "columns" },
        h("div", { class: "wide" }, h("section", { class: "card", "aria-label": "Live picture" },
          h("div", { class: "picture is-large" }, image, this.#note),
          this.#number, this.#words, this.#progress, this.#last, this.#passRow,
          h("div", { class: "actions" }, Object.values(this.#buttons)), this.#problem, this.#warning)),
        h("div", { class: "narrow" }, this.#verdictCard,
          h("section", { class: "card", "aria-labelledby": "left-out-title" }, h("h2", { id: "left-out-title" }, "Scores of the pictures"), this.#chart.element),
          h("section", { class: "card", "aria-labelledby": "not-taken-title" }, h("h2", { id: "not-taken-title" }, "Frames left out"), this.#leftOut))),
      this.#picturesCard);
    for (const one of Object.values(this.#buttons)) one.hidden = true;
    this.#picture.start();
    this.#follow();
  }

  title = () => `Teach ${this.#name}`;

  update() {}

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#picture.stop();
  }

  #path = (...parts) => path("cameras", this.#name, "teaching", ...parts);

  async #follow() {
    if (!document.hidden && !this.#isBusy) await this.#ask();
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#follow(), ASK_MS);
  }

  async #ask() {
    try {
      const state = await get(this.#path());
      if (state.state === "installed") this.#models = await get(path("models")).catch(() => null);
      if (!this.#isBusy && !this.#isClosed) this.#show(state);
    } catch (error) {
      // 409: this stream does not teach; anything else is retried at the next turn
      if (error.status === 409) setText(this.#problem, error.words);
    }
  }

  async #do(method, ...parts) {
    await this.#change(() => send(method, this.#path(...parts)));
  }

  async #start(refine) {
    await this.#change(() => send("POST", this.#path(), { needs_rest: !this.#pass.checked, refine: refine }));
  }

  async #undo() {
    await this.#change(async () => {
      await send("POST", path("models", "rollback"), { active: this.#state.model, why: "the teaching is undone" });
      this.#models = await get(path("models"));
      return this.#state;
    });
  }

  /** Carry out a request and show the state that it gives; one at a time. */
  async #change(ask) {
    if (this.#isBusy) return;
    this.#isBusy = true;
    setText(this.#problem, "");
    try {
      this.#show(await ask());
    } catch (error) {
      setText(this.#problem, error.words ?? String(error));
      this.#problem.dataset.kept = "yes";
    } finally {
      this.#isBusy = false;
    }
  }

  #show(state) {
    // the words of a refused request stay until the state changes
    if (state.problem || state.state !== this.#state?.state || !this.#problem.dataset.kept) {
      setText(this.#problem, state.problem);
      delete this.#problem.dataset.kept;
    }
    this.#state = state;
    const n = state.pictures.length;
    setText(this.#number, RUNNING.includes(state.state) || n ? plural(n, "good part") : "");
    setText(this.#words, wordsOf(state, this.#models));
    setText(this.#last, state.state === "collecting" ? silence(state) || state.last : "");
    setText(this.#warning, [state.busy, RUNNING.includes(state.state) ? "" : state.warning].filter(Boolean).join(" "));
    this.#showProgress(state);
    this.#showButtons(state);
    this.#showVerdict(state.verdict);
    this.#chart.show(state);
    const kinds = Object.entries(state.left_out).sort(([, one], [, other]) => other - one);
    this.#leftOut.replaceChildren(kinds.length ? facts(kinds.map(([kind, number]) => [LEFT_OUT[kind] ?? kind, count(number)]))
      : h("p", { class: "muted" }, "None so far."));
    this.#showPictures(state);
  }

  #showProgress({ state, task, done, total }) {
    this.#progress.hidden = !["opening", "fitting", "installing"].includes(state);
    if (task && total) Object.assign(this.#progress, { max: total, value: done });
    else this.#progress.removeAttribute("value");
    this.#progress.setAttribute("aria-label", task || state);
  }

  #showButtons({ state, pictures, earlier, busy, model }) {
    const isFree = !RUNNING.includes(state);
    const isActive = state === "installed" && this.#models?.active === model;
    const shown = {
      finish: state === "collecting", cancel: ["opening", "collecting", "fitting"].includes(state),
      install: state === "taught" || (state === "installed" && this.#models !== null && !isActive),
      undo: isActive && this.#models.previous !== null, more: isFree && earlier !== null, begin: isFree,
    };
    for (const [name, element] of Object.entries(this.#buttons)) {
      element.hidden = !shown[name];
      element.disabled = isFree && name !== "undo" && busy !== "";
    }
    this.#buttons.begin.classList.toggle("primary", earlier === null);
    this.#buttons.finish.disabled = pictures.length < LEAST;
    if (earlier) setText(this.#buttons.more, `Show more parts (${earlier.pictures} so far)`);
    this.#passRow.hidden = !isFree;
  }

  #showVerdict(verdict) {
    this.#verdictCard.hidden = verdict === null;
    if (!verdict || this.#verdict.dataset.shown === verdict.sentences.join()) return;
    this.#verdict.dataset.shown = verdict.sentences.join();
    this.#verdict.replaceChildren(...verdict.sentences.map((sentence) =>
      h("p", { class: sentence.startsWith("Warning") ? "promise" : "promise is-certified" }, sentence)));
  }

  #showPictures({ state, pictures, scores }) {
    this.#picturesCard.hidden = pictures.length === 0;
    const may = state === "collecting";
    const shown = JSON.stringify([pictures, may]);
    if (this.#pictures.dataset.shown !== shown) {
      this.#pictures.dataset.shown = shown;
      this.#pictures.replaceChildren(...pictures.map((file, index) => h("li", { "data-file": file },
        h("img", { src: this.#path("pictures", file), alt: `Picture ${index + 1}`, loading: "lazy", width: 120, height: 90 }),
        h("span", { class: "hint" }),
        may ? h("button", { type: "button", "aria-label": `Leave out picture ${index + 1}`, onclick: () => this.#do("DELETE", "pictures", file) }, "Leave out") : null)).reverse());
    }
    const found = new Map(scores.map((one) => [one.picture, one.score]));
    for (const item of this.#pictures.children) {
      const value = found.get(item.dataset.file);
      setText(item.querySelector(".hint"), `${item.dataset.file}${value === undefined ? "" : `: ${value.toFixed(2)}`}`);
    }
  }
}

function button(words, onclick, kind = "") {
  return h("button", { type: "button", class: kind || null, onclick }, words);
}

/** "The camera has given no picture for 12 s: it is lost, or the line stands still." */
function silence({ silent_s: silent }) {
  return silent > SILENT_S ? `The camera has given no picture for ${duration(Math.floor(silent))}. The accepted pictures are kept, and it continues with the next one.` : "";
}

/** What to do now, in a sentence or two. */
export function wordsOf(state, models) {
  const n = state.pictures.length;
  switch (state.state) {
    case "opening": return "Opening the base bundle …";
    case "collecting": return `Show good parts one after the other; unless they pass by without stopping, hold each still and take it away. ${promise(state, n)}`;
    case "fitting": return `Learning from ${plural(n, "picture")} …${state.task ? ` ${state.task}.` : ""} The line judges meanwhile.`;
    case "taught": return "The model is ready. Read the verdict, then install it: the line changes to it without losing a frame.";
    case "installing": return "Installing: the bundle is verified and its engine built and checked. The line judges meanwhile.";
    case "installed": return installed(state.model, models);
    case "cancelled": return n ? `Cancelled. ${kept(n)}.` : "Cancelled.";
    case "failed": return n ? `It ended with an error. ${kept(n)}: show more parts to continue.` : "It ended with an error.";
    default: return "Show about ten good parts, one after the other. The active model keeps judging, and may raise alarms for a new part.";
  }
}

const kept = (n) => (n === 1 ? "The picture is kept" : `The ${n} pictures are kept`);

function promise({ rate, next }, n) {
  const more = next && next.pictures - n;
  if (rate === null) return next ? `${plural(more, "more part")} for a first promise: at most ${percent(next.rate)} of good parts raise an alarm.` : "";
  return `With these at most ${percent(rate)} of good parts are promised to raise an alarm${next ? `; ${plural(more, "more part")} ${more === 1 ? "promises" : "promise"} ${percent(next.rate)}` : ""}.`;
}

function installed(model, models) {
  if (models === null) return `Installed as ${model}.`;
  if (models.active !== model) return `Installed as ${model}; the active model is ${models.active ?? "another one"}.`;
  const own = models.installed.find((one) => one.name === model);
  return own && own.digest === models.running ? `The taught model ${model} judges now.` : `The line changes to ${model} …`;
}
