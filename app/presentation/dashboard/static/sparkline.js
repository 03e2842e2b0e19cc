// Calls by time as a small area, failed ones in front of it: SVG paths, changed in place.

import { svg } from "./dom.js";

const WIDTH = 160;
const HEIGHT = 30;

/** An empty sparkline; `draw` fills it. */
export function sparkline() {
  const calls = svg("path", { class: "spark-calls" });
  const failed = svg("path", { class: "spark-failed" });
  return svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": "Calls over time" }, calls, failed);
}

/** Draw counts by point of time. */
export function draw(element, { calls, failed }) {
  const top = Math.max(...calls, 1);
  const [area, bars] = element.children;
  area.setAttribute("d", steps(calls, top));
  bars.setAttribute("d", steps(failed, top));
  element.setAttribute("aria-label", `Calls over time, at most ${top} in a point; ${failed.reduce((a, b) => a + b, 0)} failed`);
}

function steps(counts, top) {
  const width = WIDTH / counts.length;
  const y = (count) => (HEIGHT - (count && Math.max((count / top) * (HEIGHT - 1), 1.5))).toFixed(1);
  const path = counts.map((count, i) => `V${y(count)}H${((i + 1) * width).toFixed(1)}`).join("");
  return `M0 ${HEIGHT}${path}V${HEIGHT}Z`;
}
