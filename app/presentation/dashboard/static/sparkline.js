// Predictions by time as a small area, failed ones in front of it: SVG paths, changed in place.

import { svg } from "./dom.js";

const WIDTH = 160;
const HEIGHT = 30;

/** An empty sparkline; `draw` fills it. */
export function sparkline() {
  const all = svg("path", { class: "spark-all" });
  const failed = svg("path", { class: "spark-failed" });
  return svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": "Predictions over time" }, all, failed);
}

/** Draw counts by point of time, as the API names them. */
export function draw(element, { calls: all, failed }) {
  const top = Math.max(...all, 1);
  const [area, bars] = element.children;
  area.setAttribute("d", steps(all, top));
  bars.setAttribute("d", steps(failed, top));
  element.setAttribute("aria-label", `Predictions over time, at most ${top} in a point; ${failed.reduce((a, b) => a + b, 0)} failed`);
}

function steps(counts, top) {
  const width = WIDTH / counts.length;
  const y = (count) => (HEIGHT - (count && Math.max((count / top) * (HEIGHT - 1), 1.5))).toFixed(1);
  const path = counts.map((count, i) => `V${y(count)}H${((i + 1) * width).toFixed(1)}`).join("");
  return `M0 ${HEIGHT}${path}V${HEIGHT}Z`;
}
