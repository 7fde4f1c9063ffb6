// Device, model, engine, alert storage and deliveries, and a table of camera health.

import { get, path, send } from "./api.js";
import { facts, h } from "./dom.js";
import { count, duration, ms, sentence, utc } from "./format.js";
import { ModelsCard } from "./models.js";
import { cameraUrl } from "./overview.js";
import { store } from "./store.js";
import { badge } from "./verdict.js";

const EVERY_MS = 5000;
const MOST_PICTURES = 6;

export function open(root, { onLogout, who }) {
  const device = h("div");
  const model = h("div");
  const storage = h("div");
  const judged = h("div");
  const health = h("tbody");
  const sinks = h("tbody");
  const noSinks = h("p", { class: "muted" }, "Alerts are not sent to other systems.");
  const shadowText = h("p");
  const shadowPictures = h("div", { class: "columns is-even" });
  const shadow = card("Shadow model", shadowText, shadowPictures);
  shadow.hidden = true;
  const models = new ModelsCard();
  const sinkTable = table("Deliveries", ["Sink", "State", "Waiting", "Detail"], sinks);
  let timer = 0;
  let isClosed = false;
  root.append(
    h("div", { class: "head" }, h("h1", {}, "System")),
    h("div", { class: "columns is-even" },
      card("Device", device), card("Model and engine", model), card("Alert storage", storage),
      card("Judged alerts", judged),
      card("Session", h("p", {}, "Logged in as ", h("strong", {}, who ?? "–"), "."),
        h("button", { type: "button", onclick: () => send("DELETE", path("session")).finally(onLogout) }, "Log out"))),
    models.element, shadow,
    card("Deliveries", sinkTable, noSinks),
    card("Camera health", table("Camera health",
      ["Camera", "State", "Frames/s", "Delay, median / 95 %", "Frames judged", "Skipped", "Restarts", "Last error"], health)));

  function show(info) {
    device.replaceChildren(facts([
      ["Device", info.device], ["edgead", info.version], ["Uptime", duration(info.uptime_s)], ["Started", utc(info.started_at)]]));
    model.replaceChildren(facts([
      ["Model", info.bundle.model], ["Classes", info.bundle.classes?.length ? info.bundle.classes.join(", ") : "one"],
      ["Bundle", h("code", {}, info.bundle.digest.replace("sha256:", "").slice(0, 16))],
      info.bundle.changed ? ["Changed", readable(info.bundle.changed)] : null,
      ["Engine", info.engine.name], ["Runs on", info.engine.device], ["Time per frame", ms(info.engine.ms)],
    ].filter(Boolean)));
    storage.replaceChildren(facts([
      ["Records", state(info.spool.records_ok)], ["Pictures and clips", state(info.spool.evidence_ok)],
      ["Free", `${count(Math.round(info.spool.free_mb))} MB`], info.spool.detail ? ["Detail", info.spool.detail] : null,
    ].filter(Boolean)));
    judged.replaceChildren(facts([
      ["False alarms", ofJudged(info.judged, "false_alarm")], ["Defects", ofJudged(info.judged, "defect")],
      ["Unsure", ofJudged(info.judged, "unsure")], ["Not judged", count(info.judged.unjudged)]]));
    if (info.can.learning) models.follow();
    noSinks.hidden = info.sinks.length > 0;
    sinkTable.hidden = !info.sinks.length;
    sinks.replaceChildren(...info.sinks.map((sink) => row([sink.name, sink.state, count(sink.depth), sink.detail ?? ""])));
  }

  function showShadow(report) {
    shadow.hidden = false;
    shadowText.textContent = report.text;
    const names = report.differences.map((one) => one.picture).join();
    if (shadowPictures.dataset.names === names) return;
    shadowPictures.dataset.names = names;
    shadowPictures.replaceChildren(...report.differences.slice(0, MOST_PICTURES).map((one) => h("figure", { class: "difference" },
      h("img", { src: path("shadow", "pictures", one.picture), alt: "Heatmaps of the active model and of the shadow" }),
      h("figcaption", { class: "muted" },
        `${one.camera}, frame ${one.frame}: active model (left) ${one.active_level.toFixed(2)}, shadow (right) ${one.shadow_level.toFixed(2)}; 1 is the threshold`))));
  }

  function update() {
    health.replaceChildren(...store.cameras.map((camera) => {
      const mark = badge();
      mark.show(camera.verdict);
      const delay = camera.delay_ms ? `${ms(camera.delay_ms.p50)} / ${ms(camera.delay_ms.p95)}` : "–";
      return row([h("a", { href: cameraUrl(camera.name) }, camera.name), mark.element, camera.fps?.toFixed(1) ?? "–", delay,
        `${count(camera.n_judged)} of ${count(camera.n_captured)}`, count(camera.n_dropped + camera.n_unjudged),
        count(camera.restarts), sentence(camera.last_error)]);
    }));
  }

  async function follow() {
    if (!document.hidden) {
      const info = await get(path("info")).catch(() => null);
      if (info && !isClosed) show(info);
      if (info?.can.shadow) await get(path("shadow")).then((report) => isClosed || showShadow(report), () => {});
    }
    if (!isClosed) timer = setTimeout(follow, EVERY_MS);
  }

  if (store.info) show(store.info);
  update();
  follow();
  return {
    title: () => "System",
    update: () => health.contains(document.activeElement) || update(),
    escape: "#/",
    close() {
      isClosed = true;
      clearTimeout(timer);
      models.close();
    },
  };
}

/** The device's words with its times as the page writes them. */
const readable = (words) => words.replace(/\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)/g, utc);

function ofJudged(judged, key) {
  const number = judged.defect + judged.false_alarm + judged.unsure;
  return number ? `${count(judged[key])} of ${count(number)} judged` : "–";
}

function card(title, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), ...children);
}

function table(label, columns, body) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))), body));
}

function row(cells) {
  return h("tr", {}, cells.map((cell) => h("td", {}, cell)));
}

function state(isFine) {
  const mark = badge();
  mark.show(isFine ? "ok" : "failed", isFine ? "OK" : "Write error");
  return mark.element;
}
