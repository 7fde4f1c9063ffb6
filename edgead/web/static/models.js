// Models of the line: what is installed, which one judges and why; activate, roll back and install, each after a question.

import { get, path, send } from "./api.js";
import { facts, h, setText } from "./dom.js";
import { duration, plural, score, utc } from "./format.js";
import { promise } from "./threshold.js";
import { badge } from "./verdict.js";

const EVERY_MS = 5000;
const BUSY_MS = 1000;
const OWN_NAME = "edgead";
const SHOWN_CHANGES = 20;
// a store that is busy answers after its lock is free
const LIMIT_MS = 30000;

/** What the answer about the models means for the line. */
export function read(answer) {
  const bare = (digest) => digest.replace("sha256:", "");
  const find = (name) => answer.installed.find((one) => one.name === name) ?? null;
  const [active, previous] = [find(answer.active), find(answer.previous)];
  const running = answer.installed.find((one) => one.digest === bare(answer.running)) ?? null;
  const isChanging = active !== null && (active !== running || active.engine !== answer.running_engine);
  const last = answer.activations.at(-1);
  const isOwn = last?.who === OWN_NAME && last.kind === "rollback";
  return { ...answer, active, previous, running, isChanging,
    // edgead itself has brought a model back: the other one was left, or never took over
    broughtBack: isOwn && !isChanging ? { why: last.why, name: last.left || answer.activations.at(-2)?.name, isLeft: Boolean(last.left) } : null };
}

export class ModelsCard {
  #state = null;
  #shown = "";
  #timer = 0;
  #isFollowing = false;
  #isClosed = false;
  #status = h("p", { class: "models-status", role: "status" });
  #watch = h("p", { class: "hint" });
  #problem = h("p", { class: "problem", role: "alert" });
  #back = h("button", { type: "button", onclick: () => this.#askRollBack() });
  #list = h("ul", { class: "models" });
  #history = h("div");
  #dialog = h("dialog", { "aria-labelledby": "models-question" });
  #install = new InstallForm((body) => this.#send("install", body));

  constructor() {
    this.element = h("section", { class: "card", "aria-labelledby": "models-title" },
      h("h2", { id: "models-title" }, "Models of the line"), this.#status, this.#watch, this.#problem,
      h("div", { class: "actions" }, this.#back), this.#list, this.#install.element,
      h("details", { class: "change" }, h("summary", {}, "Earlier changes"), this.#history), this.#dialog);
    this.element.hidden = true;
  }

  /** Ask for the models from now on, on a line that has a store. */
  follow() {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    this.#load();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#dialog.close();
  }

  async #load() {
    clearTimeout(this.#timer);
    if (!document.hidden) {
      try {
        this.#show(await get(path("models")));
      } catch (error) {
        this.element.hidden = error.status === 404;
        if (error.status && error.status !== 404) setText(this.#problem, error.words);
      }
    }
    clearTimeout(this.#timer);
    const isBusy = this.#state?.isChanging || this.#state?.installation?.state === "running";
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#load(), isBusy ? BUSY_MS : EVERY_MS);
  }

  async #send(what, body) {
    this.#show(await send("POST", path("models", what), body, LIMIT_MS));
    // the line changes within seconds
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), BUSY_MS);
  }

  #show(answer) {
    if (this.#isClosed) return;
    const state = this.#state = read(answer);
    this.element.hidden = false;
    setText(this.#status, statusWords(state));
    setText(this.#watch, watchWords(state));
    setText(this.#problem, broughtBackWords(state));
    this.#back.hidden = state.previous === null;
    setText(this.#back, `Roll back to ${state.previous?.name ?? ""} …`);
    this.#install.show(state);
    const shown = JSON.stringify([answer.installed, answer.activations, answer.active, answer.running, answer.running_engine]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const focused = [...this.#list.children].find((row) => row.contains(document.activeElement))?.dataset.name;
    // the newest first; the store keeps the order of the installations
    this.#list.replaceChildren(...[...state.installed].reverse().map((model) => modelRow(state, model, () => this.#askActivate(model))));
    if (focused) this.#list.querySelector(`[data-name="${CSS.escape(focused)}"] button`)?.focus();
    this.#history.replaceChildren(historyTable(answer.activations));
  }

  #askActivate(model) {
    this.#ask(`Activate ${model.name}?`, "Activate", meaning(this.#state, model, true),
      (why) => this.#send("activate", { model: model.name, why }));
  }

  #askRollBack() {
    const { active, previous } = this.#state;
    this.#ask(`Roll back to ${previous.name}?`, "Roll back", meaning(this.#state, previous, false),
      (why) => this.#send("rollback", { active: active.name, why }));
  }

  #ask(title, words, sentences, onSure) {
    const why = h("input", { id: "models-why", maxlength: "500", autocomplete: "off" });
    const problem = h("p", { class: "problem", role: "alert" });
    const sure = h("button", { class: "primary" }, words);
    const form = h("form", { onsubmit: async (event) => {
      event.preventDefault();
      if (sure.disabled) return;
      sure.disabled = true;
      setText(problem, "");
      try {
        await onSure(why.value.trim());
        this.#dialog.close();
      } catch (error) {
        setText(problem, error.words ?? String(error));
      } finally {
        sure.disabled = false;
      }
    } }, h("label", { for: "models-why" }, "Reason (optional)"), why, problem,
    h("div", { class: "actions" }, sure, h("button", { type: "button", onclick: () => this.#dialog.close() }, "Cancel")));
    this.#dialog.replaceChildren(h("h2", { id: "models-question" }, title),
      h("ul", { class: "meaning" }, sentences.map((one) => h("li", {}, one))), form);
    this.#dialog.showModal();
    // on a phone the question would be scrolled out of sight
    sure.focus({ preventScroll: true });
    this.#dialog.scrollTop = 0;
  }
}

/** Bundles that lie on the device, the choice of one, and how far its installation is. */
class InstallForm {
  #names = "";
  #onInstall;
  #bundle = h("select", { id: "install-bundle" });
  #why = h("input", { id: "install-why", maxlength: "500", autocomplete: "off" });
  #button = h("button", { class: "primary" }, "Install");
  #state = h("p", { class: "hint", role: "status" });
  #problem = h("p", { class: "problem", role: "alert" });
  #none = h("p", {}, "Copy the folder of a bundle or a run to the device, into the folder ", h("code", {}, "incoming"), " of the model store; it then appears here.");
  #form;

  constructor(onInstall) {
    this.#onInstall = onInstall;
    this.#form = h("form", { onsubmit: (event) => this.#submit(event) },
      h("label", { for: "install-bundle" }, "Bundle on the device"), this.#bundle,
      h("label", { for: "install-why" }, "Reason (optional)"), this.#why,
      h("p", { class: "hint" }, "It is verified, its engine is built in the precision of the active model, and both are checked; the line judges on. " +
        "Afterwards it can be activated. The oldest models beyond three are removed, never the active one and the one before it."),
      h("div", { class: "actions" }, this.#button));
    this.element = h("div", {},
      h("details", { class: "change" }, h("summary", {}, "Install a model"), this.#none, this.#form), this.#state, this.#problem);
  }

  show({ installable, installation }) {
    const names = installable.join("\n");
    if (names !== this.#names) {
      this.#names = names;
      const chosen = this.#bundle.value;
      this.#bundle.replaceChildren(...installable.map((name) => h("option", { value: name }, name)));
      if (installable.includes(chosen)) this.#bundle.value = chosen;
    }
    this.#form.hidden = !installable.length;
    this.#none.hidden = installable.length > 0;
    const isRunning = installation?.state === "running";
    this.#button.disabled = isRunning;
    setText(this.#state, isRunning ? `Installing ${installation.bundle} … ${installation.note}`
      : installation?.state === "done" ? `Installed ${installation.bundle} as model ${installation.model}.` : "");
    setText(this.#problem, installation?.state === "failed"
      ? `${installation.bundle} was not installed: ${installation.error} ${installation.hint}`.trim() : "");
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#button.disabled) return;
    this.#button.disabled = true;
    setText(this.#problem, "");
    try {
      await this.#onInstall({ bundle: this.#bundle.value, why: this.#why.value.trim() });
      this.#why.value = "";
    } catch (error) {
      setText(this.#problem, error.words ?? String(error));
      this.#button.disabled = false;
    }
  }
}

function statusWords({ active, running, isChanging, activations }) {
  if (!active) return "No model is active.";
  const last = activations.at(-1);
  if (!isChanging) {
    const done = last ? `, since ${last.who} ${last.kind === "rollback" ? "rolled back to it" : "activated it"} at ${utc(last.at)}` : "";
    return `${active.name} judges${done}${last?.why ? `: ${last.why}` : ""}.`;
  }
  return `${active.name} is being opened and checked; ${running?.name ?? "the model before"} judges until it takes over.`;
}

function watchWords({ watch, running }) {
  if (!watch || watch.bundle !== running?.digest) return "";
  const most = watch.most_alarms === null ? "" : `; more than ${watch.most_alarms} bring the model before back`;
  return `Watched in its first ${duration(watch.of_s)}: ${plural(watch.alarms, "alarm")} in ${duration(Math.round(watch.seconds))} so far${most}.`;
}

function broughtBackWords({ broughtBack, active }) {
  if (!broughtBack) return "";
  const { name, why, isLeft } = broughtBack;
  const done = isLeft ? `${name} was left again, and ${active.name} is back` : `${name} did not take over, and ${active.name} judges on`;
  return `${done}: ${why}`;
}

/** What happens to the running line, one sentence each. */
function meaning({ running, active }, model, isWatched) {
  const now = running ?? active;
  const before = now?.name ?? "the present model";
  return [
    `The line judges on with ${before} until ${model.name} is opened and checked; no frame is lost.`,
    now && now.engine !== model.engine ? `The engine changes from ${now.engine} to ${model.engine}.` : "",
    "Active alerts end, and a defect that stays opens a new one.",
    `Thresholds that people set for ${before} are set aside until it is back.`,
    isWatched ? `If ${model.name} alarms far more often or is far slower in its first minutes, the model before comes back by itself, unless the settings turn this off.`
      : `${model.name} is not watched in its first minutes: it has judged here before.`,
  ].filter(Boolean);
}

function modelRow(state, model, onActivate) {
  const mark = badge();
  const [verdict, words] = model === state.running ? ["ok", "Judges now"]
    : model === state.active ? ["waiting", "Being opened"] : model === state.previous ? ["past", "The one before"] : ["past", "Installed"];
  mark.show(verdict, words);
  const { facts: known } = model;
  const activate = h("button", { type: "button", onclick: onActivate }, `Activate ${model.name} …`);
  activate.hidden = model === state.active;
  const promises = (known?.promises ?? []).flatMap((one) => [
    [known.promises.length > 1 ? `Promise for ${one.part}` : "Promise", promise(one, `its shipped threshold, ${score(one.threshold)}`)]]);
  return h("li", { class: "model", "data-name": model.name },
    h("div", { class: "model-head" }, h("h3", {}, h("code", {}, model.name)), mark.element, activate),
    facts([
      ["Model", `${model.model}${model.classes.length > 1 ? `, ${plural(model.classes.length, "kind of part", "kinds of part")}` : ""}`],
      ["Engine", model.engine],
      ["From", `${known ? known.origin : "its files cannot be read"}; made ${utc(model.trained_at)}`],
      ["Installed", `${utc(model.installed_at)} by ${model.who}${model.why ? `: ${model.why}` : ""}`],
      ...promises,
    ]), known?.has_threshold_images ? h("p", {}, h("a", { href: path("models", model.name, "threshold-images.jpg"), target: "_blank", rel: "noopener" },
      "Good images that set its threshold"), h("span", { class: "hint" }, " A defect among them hides every defect like it.")) : null);
}

function historyTable(activations) {
  const shown = activations.slice(-SHOWN_CHANGES).reverse();
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Changes of the active model" },
    h("table", {}, h("thead", {}, h("tr", {}, ["When", "Who", "Model", "Change", "Reason"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, shown.map((one) => h("tr", {},
        h("td", {}, h("time", { datetime: one.at }, utc(one.at))), h("td", {}, one.who), h("td", {}, h("code", {}, one.name)),
        h("td", {}, one.kind === "rollback" ? "rolled back" : "activated"), h("td", {}, one.why || "–"))))));
}
