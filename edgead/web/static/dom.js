// Elements without HTML strings: names and notes come from outside and are only set as text.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on…` keys are listeners, `class`, `dataset`-like and aria keys attributes, others properties. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.includes("-") && typeof value !== "string") element[key] = value;
    else element.setAttribute(key === "className" ? "class" : key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Set text only if it differs, so that screen readers and selections are not disturbed. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, prefix, name) {
  const wanted = `${prefix}${name}`;
  if (element.classList.contains(wanted)) return;
  for (const old of [...element.classList]) if (old.startsWith(prefix)) element.classList.remove(old);
  element.classList.add(wanted);
}

/** A description list from [term, text or node] pairs. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.map(([term, value]) =>
    h("div", {}, h("dt", {}, term), h("dd", {}, value instanceof Node ? value : String(value ?? "–")))));
}

const ICONS = {
  ok: "M4 12.5l5 5L20 6.5",
  anomaly: "M12 3.5l8.5 8.5-8.5 8.5L3.5 12z",
  alert: "M12 3 22.2 20.5H1.8zM12 9.5v5M12 17v.6",
  held: "M8 4.5v15M16 4.5v15",
  fault: "M3 7h4l2-2.5h6L17 7h4v12H3zM9.5 10.5l5 5M14.5 10.5l-5 5",
  lost: "M4 4l16 16M7.5 15.2a6 6 0 0 1 3-2M4.5 11.5a11 11 0 0 1 4.4-3M12 19.4v.2M19.5 11.5a11 11 0 0 0-5.3-3.4",
  failed: "M5 5l14 14M19 5L5 19",
  waiting: "M12 3.5a8.5 8.5 0 1 0 .01 0M12 7v5.3l3.4 2",
};

/** A decorative icon beside text that says the same. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" },
    svg("path", { d: ICONS[name] ?? ICONS.waiting }));
}
