// All cameras at a glance.

import { get, path } from "./api.js";
import { h, setClass, setText } from "./dom.js";
import { score, sentence } from "./format.js";
import { levelBar } from "./level.js";
import { LivePicture, staleWords } from "./picture.js";
import { store } from "./store.js";
import { drawSparkline } from "./trace.js";
import { badge, isGone, summary, worstZone } from "./verdict.js";

// px, as in the style sheet
const GAP = 16;
const BORDER = 6;
const MARGIN = 40;
const WORDS_WIDTH = 224;
const WORDS_HEIGHT = 150;
const LEAST = 240;
const COMFORT = 360;
const ASPECT = 3 / 4;
// all tiles together; the device allows 50 requests/s per address, which several people may share
const PICTURES_PER_S = 16;
const SPARK_SECONDS = 120;
const SPARK_EVERY_MS = 5000;

export const cameraUrl = (name) => `#/camera/${encodeURIComponent(name)}`;

export function open(root) {
  const list = h("ul", { class: "tiles" });
  const empty = h("p", { class: "empty" }, "Waiting for the device …");
  const heading = h("h1", { class: "visually-hidden" }, "Cameras");
  root.append(heading, empty, list);
  let tiles = new Map();

  const arrange = () => {
    if (!store.cameras.length) return;
    const plan = layout(store.cameras.length, list.clientWidth, innerHeight - list.offsetTop);
    list.classList.toggle("is-wide", plan.isWide);
    list.style.setProperty("--columns", plan.columns);
    list.style.setProperty("--picture", `${plan.width}px`);
  };

  function update() {
    const names = store.cameras.map((camera) => camera.name);
    empty.hidden = names.length > 0;
    if (store.isLoaded) setText(empty, "No cameras are configured. Add them under `cameras:` in the configuration.");
    if (names.join("\n") !== [...tiles.keys()].join("\n")) {
      for (const tile of tiles.values()) tile.close();
      tiles = new Map(names.map((name) => [name, new Tile(name)]));
      list.replaceChildren(...[...tiles.values()].map((tile) => tile.element));
      arrange();
    }
    for (const camera of store.cameras) tiles.get(camera.name).show(camera);
  }

  addEventListener("resize", arrange);
  update();
  return {
    title: () => summary(store.cameras).text,
    update,
    close() {
      removeEventListener("resize", arrange);
      for (const tile of tiles.values()) tile.close();
    },
  };
}

/**
 * Arrange `number` tiles with the largest pictures that fit into `width` × `height` px: number of columns, picture
 * width, and whether the text is beside the picture.
 */
export function layout(number, width, height) {
  let best = { columns: 1, isWide: false, width: 0 };
  for (let columns = 1; columns <= number; columns += 1) {
    const room = (width - GAP * (columns - 1)) / columns - BORDER;
    if (columns > 1 && room < LEAST) break;
    const rows = Math.ceil(number / columns);
    const tall = (height - MARGIN - GAP * (rows - 1)) / rows - BORDER;
    const below = Math.min(room, (tall - WORDS_HEIGHT) / ASPECT);
    const beside = Math.min(room - WORDS_WIDTH, tall / ASPECT);
    if (below > best.width) best = { columns, isWide: false, width: Math.floor(below) };
    if (beside > best.width && beside > LEAST) best = { columns, isWide: true, width: Math.floor(beside) };
  }
  if (best.width >= LEAST) return best;
  // too many for one screen: the page scrolls
  const columns = Math.max(1, Math.floor((width + GAP) / (COMFORT + GAP)));
  return { columns, isWide: false, width: Math.floor((width - GAP * (columns - 1)) / columns) - BORDER };
}

const UNLIKE = "Its pictures are unlike the training images: no promise holds.";

class Tile {
  #name;
  #zone = null;
  #badge = badge();
  #level = levelBar("Score");
  #score = h("strong");
  #threshold = h("span", { class: "muted" });
  #zoneName = h("span", { class: "muted" });
  #note = h("p", { class: "picture-note" });
  #problem = h("p", { class: "tile-problem" });
  #spark = h("canvas", { class: "spark", "aria-hidden": "true" });
  #picture;
  #timer = 0;
  #isHeatmap = false;
  #isClosed = false;

  constructor(name) {
    this.#name = name;
    const image = h("img", { alt: `Live picture of ${name}` });
    this.element = h("li", { class: "tile card" },
      h("div", { class: "picture" }, image, this.#note),
      h("div", { class: "tile-words" },
        h("div", { class: "tile-head" }, h("h2", {}, h("a", { href: cameraUrl(name) }, name)), this.#badge.element),
        h("div", { class: "tile-scores" }, h("p", {}, this.#score, " ", this.#threshold, " ", this.#zoneName), this.#spark),
        this.#level.element, this.#problem));
    this.#picture = new LivePicture(image, name, {
      width: 640, perSecond: Math.min(4, PICTURES_PER_S / store.cameras.length), onPicture: (age) => setText(this.#note, staleWords(age)),
      onNone: (words) => setText(this.#note, words),
    }).start();
    this.#timer = setTimeout(() => this.#loadSpark(), 50);
  }

  show(camera) {
    const why = isGone(camera) ? sentence(camera.last_error) : "";
    setText(this.#problem, why || (camera.unlike ? UNLIKE : ""));
    // why there is no picture matters more than a score that is none
    this.element.classList.toggle("has-problem", Boolean(why));
    const zone = worstZone(camera);
    // an old score must not look current
    this.#zone = zone && isGone(camera) ? { ...zone, score: null, level: null } : zone;
    setClass(this.element, "is-", camera.verdict);
    this.#showWhere(camera.verdict === "alert");
    this.#badge.show(camera.verdict);
    if (!this.#zone) return;
    setText(this.#score, score(this.#zone.score));
    setText(this.#threshold, `threshold ${score(this.#zone.threshold)}`);
    setText(this.#zoneName, camera.zones.length > 1 ? `in ${this.#zone.name}` : "");
    this.#level.show(this.#zone);
  }

  /** Show the heatmap while there is an alert. */
  #showWhere(isAlert) {
    if (isAlert === this.#isHeatmap) return;
    this.#isHeatmap = isAlert;
    this.#picture.heatmap = isAlert;
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#picture.stop();
  }

  async #loadSpark() {
    if (this.#zone && !document.hidden) {
      try {
        const query = `?zone=${encodeURIComponent(this.#zone.name)}&seconds=${SPARK_SECONDS}`;
        drawSparkline(this.#spark, await get(`${path("cameras", this.#name, "scores")}${query}`), SPARK_SECONDS);
      } catch {
        // retried at the next turn
      }
    }
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#loadSpark(), SPARK_EVERY_MS);
  }
}
