// Live pictures: each is requested after the last one was shown, and none while the page is hidden.

import { link, path, request } from "./api.js";
import { duration } from "./format.js";

// browsers open six connections per host: one is for events, and the rest of the page needs some
const LANES = 3;
const RETRY_MS = 1500;
const STALE_S = 5;

let busy = 0;
const queue = [];

async function lane() {
  if (busy >= LANES) await new Promise((resolve) => queue.push(resolve));
  else busy += 1;
}

function leave() {
  const next = queue.shift();
  if (next) next();
  else busy -= 1;
}

/** Note over a picture of this age, in s. */
export const staleWords = (age) => (age < STALE_S ? "" : `No new picture for ${duration(Math.floor(age))}`);

export class LivePicture {
  #image;
  #camera;
  #options;
  #abort = null;
  #timer = 0;
  #isSeen = true;
  #isRunning = false;
  #isPaused = false;
  #observer;
  #frame = null;
  #newAt = 0;
  #onHidden = () => this.#wake();

  /**
   * @param image the `img` to fill
   * @param camera name of the camera
   * @param options `width` in px, `perSecond`, `onPicture(age in s of the newest)`, `onNone(words)` where there is no picture at all
   */
  constructor(image, camera, options) {
    this.#image = image;
    this.#camera = camera;
    this.#options = { heatmap: false, ...options };
    this.#observer = new IntersectionObserver((entries) => {
      this.#isSeen = entries[entries.length - 1].isIntersecting;
      this.#wake();
    });
  }

  start() {
    this.#isRunning = true;
    this.#observer.observe(this.#image.parentElement ?? this.#image);
    document.addEventListener("visibilitychange", this.#onHidden);
    link.addEventListener("back", this.#onHidden);
    this.#next(0);
    return this;
  }

  stop() {
    this.#isRunning = false;
    this.#observer.disconnect();
    document.removeEventListener("visibilitychange", this.#onHidden);
    link.removeEventListener("back", this.#onHidden);
    this.#abort?.abort();
    clearTimeout(this.#timer);
    this.#release();
  }

  set heatmap(isOn) {
    this.#options.heatmap = isOn;
    this.#abort?.abort();
    this.#next(0);
  }

  /** Index of the frame that is shown, or null. */
  get frame() {
    return this.#frame === null ? null : Number(this.#frame);
  }

  /** Show no newer picture until `resume`. */
  pause() {
    this.#isPaused = true;
    this.#abort?.abort();
    clearTimeout(this.#timer);
  }

  resume() {
    this.#isPaused = false;
    this.#newAt = performance.now();
    this.#next(0);
  }

  /** Show this picture while paused. */
  still = (blob) => this.#show(URL.createObjectURL(blob));

  #wake() {
    if (this.#isRunning && !this.#abort) this.#next(0);
  }

  #next(delay) {
    clearTimeout(this.#timer);
    if (this.#isRunning && !this.#isPaused && this.#isSeen && !document.hidden) this.#timer = setTimeout(() => this.#load(), delay);
  }

  async #load() {
    if (this.#abort || this.#isPaused) return;
    const abort = (this.#abort = new AbortController());
    const begin = performance.now();
    let delay = RETRY_MS;
    await lane();
    try {
      const query = `?heatmap=${this.#options.heatmap ? 1 : 0}&width=${this.#options.width}`;
      const response = await request(`${path("cameras", this.#camera, "picture.jpg")}${query}`, { signal: abort.signal });
      const frame = response.headers.get("X-Frame");
      const url = URL.createObjectURL(await response.blob());
      if (abort.signal.aborted) URL.revokeObjectURL(url);
      else await this.#show(url);
      if (frame === null || frame !== this.#frame) this.#newAt = performance.now();
      this.#frame = frame;
      this.#options.onPicture?.((performance.now() - this.#newAt) / 1000);
      delay = Math.max(0, 1000 / this.#options.perSecond - (performance.now() - begin));
    } catch (error) {
      if (abort.signal.aborted) delay = 0;
      else this.#options.onNone?.(error.words ?? "No picture.");
    } finally {
      leave();
      this.#abort = null;
    }
    this.#next(delay);
  }

  async #show(url) {
    const old = this.#image.src;
    this.#image.src = url;
    await this.#image.decode().catch(() => {});
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  }

  #release() {
    if (this.#image.src.startsWith("blob:")) URL.revokeObjectURL(this.#image.src);
  }
}
