// The page: routing, header, notifications and keys.

import { alertUrl } from "./alert_state.js";
import * as alerts from "./alerts.js";
import { get, link, path } from "./api.js";
import * as camera from "./camera.js";
import { h, icon, setClass, setText } from "./dom.js";
import { against } from "./format.js";
import { areKeysOn, showHelp } from "./help.js";
import * as login from "./login.js";
import * as overview from "./overview.js";
import { refresh, start, stop, store } from "./store.js";
import * as system from "./system.js";
import * as teaching from "./teaching.js";
import { openAlerts, summary } from "./verdict.js";

const TOAST_MS = 12000;
const main = document.getElementById("main");
const nav = document.getElementById("nav");
const overall = document.getElementById("overall");
const banner = document.getElementById("banner");
const toast = document.getElementById("toast");
const bar = document.querySelector(".bar");
// inputs that take text; on a checkbox, keys keep their meaning
const TYPED = ["checkbox", "radio", "button", "submit", "reset", "range", "file"]
  .reduce((selector, type) => `${selector}:not([type=${type}])`, "textarea, select, input");
const ANNOUNCED = {
  alert_opened: (where) => `New alert on ${where}`,
  alert_raised: (where, alert) => `Alert on ${where} is now ${alert.severity ?? "stronger"}`,
  alert_resumed: (where) => `The held alert on ${where} is active again`,
};
const filters = { state: "", camera: "", judgement: "" };

let view = null;
let viewName = "";
let who = null;
let toastTimer = 0;
let asking = null;

function route() {
  const [name = "", argument] = location.hash.replace(/^#\/?/, "").split("/");
  let text;
  try {
    text = argument === undefined ? undefined : decodeURIComponent(argument);
  } catch {
    text = argument;
  }
  if (name === "camera" && text) return ["camera", camera, { name: text }];
  if (name === "teach" && text) return ["teach", teaching, { name: text }];
  if (name === "alerts") return ["alerts", alerts, { id: text, filters }];
  if (name === "system") return ["system", system, { who, onLogout: ask }];
  return ["overview", overview, {}];
}

function show() {
  if (who === null) return;
  const [name, module, options] = route();
  if (name === "alerts" && viewName === "alerts") view.choose(options.id);
  else {
    const isFirst = view === null;
    replaceView(name, module, options);
    if (!isFirst) main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  if (toast.querySelector("a")?.hash === location.hash) showToast();
  for (const entry of nav.querySelectorAll("a")) {
    const isHere = entry.dataset.view === (["camera", "teach"].includes(name) ? "overview" : name);
    if (isHere) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
  }
  showHeader();
}

function replaceView(name, module, options) {
  view?.close();
  main.replaceChildren();
  viewName = name;
  view = module.open(main, options);
}

function showHeader() {
  const number = openAlerts(store.cameras).length;
  const counter = document.getElementById("open-alerts");
  counter.hidden = number === 0;
  setText(counter, String(number));
  counter.setAttribute("aria-label", `${number} open`);
  const state = !link.isUp ? { verdict: "lost", text: "No connection" }
    : store.isLoaded ? summary(store.cameras) : { verdict: "waiting", text: "Loading …" };
  overall.hidden = who === null;
  if (overall.dataset.shown !== state.verdict + state.text) {
    overall.dataset.shown = state.verdict + state.text;
    setClass(overall, "is-", state.verdict);
    overall.replaceChildren(icon(state.verdict), h("span", {}, state.text));
  }
  const title = view?.title instanceof Function ? view.title() : view?.title;
  document.title = `${number ? `(${number}) ` : ""}${title ?? "edgead"} · edgead`;
}

// when a login has expired, several requests are refused at once: a second form would discard what was typed into the first
function ask() {
  asking ??= findOut().finally(() => (asking = null));
}

async function findOut() {
  stop();
  try {
    who = (await get(path("session"))).name;
  } catch (error) {
    who = null;
    if (error.status !== 401) {
      main.replaceChildren(h("p", { class: "empty" }, error.words));
      setTimeout(ask, 3000);
      return;
    }
  }
  nav.hidden = who === null;
  if (who === null) {
    replaceView("login", login, { onLogin: ask });
    showHeader();
    return;
  }
  start();
  view?.close();
  view = null;
  viewName = "";
  show();
}

function announce({ kind, alert }) {
  if (!ANNOUNCED[kind] || !alert) return;
  const where = alert.zone && alert.zone !== "picture" ? `${alert.camera}, ${alert.zone}` : alert.camera;
  const words = ANNOUNCED[kind](where, alert);
  clearTimeout(toastTimer);
  const close = h("button", { type: "button", class: "plain", "aria-label": "Dismiss", onclick: () => showToast() }, "×");
  showToast(h("div", { class: "toast-box" }, icon("alert"),
    h("a", { href: alertUrl(alert.id) }, `${words}: score ${against(alert.peak_score ?? alert.score, alert.threshold)}`), close));
  toastTimer = setTimeout(() => toast.matches(":hover, :focus-within") || showToast(), TOAST_MS);
}

/** Show a toast or none. The header grows by it and what sticks below the header moves down (`--bar-height`), so it covers no control. */
function showToast(...content) {
  // the browser would scroll by as much as the header grows, and controls would slide under it
  document.documentElement.classList.add("is-growing");
  toast.replaceChildren(...content);
  requestAnimationFrame(() => requestAnimationFrame(() => document.documentElement.classList.remove("is-growing")));
}

function showConnection() {
  document.body.classList.toggle("is-cut-off", !link.isUp);
  banner.hidden = link.isUp;
  if (!link.isUp && !banner.firstChild) {
    banner.replaceChildren(h("span", {}, "Connection lost. The data shown is out of date; reconnecting."), " ",
      h("button", { type: "button", onclick: () => (who === null ? ask() : refresh()) }, "Try now"));
  }
  if (link.isUp) banner.replaceChildren();
  showHeader();
}

function onKey(event) {
  if (who === null || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isTyping = event.target.matches(TYPED);
  if (event.key === "Escape") {
    if (isTyping) event.target.blur();
    else if (view?.escape) location.hash = view.escape;
    return;
  }
  if (isTyping || !areKeysOn()) return;
  const places = { o: "#/", l: "#/alerts", s: "#/system" };
  const chosen = /^[1-9]$/.test(event.key) ? store.cameras[Number(event.key) - 1] : undefined;
  if (view?.keys?.[event.key]) view.keys[event.key]();
  else if (event.key === "?") showHelp();
  else if (places[event.key]) location.hash = places[event.key];
  else if (chosen) location.hash = overview.cameraUrl(chosen.name);
  else return;
  event.preventDefault();
}

new ResizeObserver(() => document.documentElement.style.setProperty("--bar-height", `${bar.offsetHeight}px`)).observe(bar);
store.addEventListener("cameras", () => {
  if (who === null) return;
  if (view?.isStale?.()) show();
  else view?.update?.();
  showHeader();
});
store.addEventListener("alert", (event) => announce(event.detail));
link.addEventListener("lost", showConnection);
link.addEventListener("back", showConnection);
link.addEventListener("login", () => who !== null && ask());
addEventListener("hashchange", show);
addEventListener("keydown", onKey);
document.getElementById("help").addEventListener("click", showHelp);
// following the link would change the fragment, which names the view
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
ask();
