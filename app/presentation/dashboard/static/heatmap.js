// A heat map of durations: time to the right, milliseconds upwards, the darker the more predictions.

import { colour, dragging, timeTicks } from "./charts.js";
import { h, replace, setText } from "./dom.js";
import { count, dateTime, duration } from "./format.js";
import { knownZone } from "./view.js";

const LEFT = 62;
const BOTTOM = 24;
const TOP = 6;
const LABELS = 6;
// From hardly to very: a single hue whose lightness grows steadily, which any eye can order.
const LIGHT = [[222, 235, 247], [158, 202, 225], [66, 146, 198], [8, 81, 156], [8, 48, 107]];
const DARK = [[22, 42, 62], [24, 78, 119], [40, 126, 178], [104, 180, 222], [205, 236, 252]];

export class HeatMap {
  constructor(place, title) {
    this.canvas = h("canvas", { role: "img", "aria-label": title });
    this.tip = h("div", { class: "tip", hidden: true });
    this.box = h("div", { class: "chart" }, this.canvas, this.tip);
    this.hint = h("span", { class: "muted" });
    replace(place, h("figure", { class: "panel" }, h("figcaption", {}, h("h2", {}, title), this.hint), this.box));
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
    new ResizeObserver(() => this.draw()).observe(this.box);
    for (const [target, event] of [[window, "themechange"], [matchMedia("(prefers-color-scheme: dark)"), "change"]]) target.addEventListener(event, () => this.draw());
    dragging(this, (x) => Math.floor(((x - LEFT) / (this.width - LEFT)) * this.points.length));
  }

  /** Show an answer of /stats/histogram that was asked for with a bucket. */
  set({ bins, points }) {
    Object.assign(this, { bins, points });
    this.most = Math.max(1, ...points.flatMap((point) => point.counts));
    this.canvas.setAttribute("aria-label", bins.length ? `Durations over time, from ${duration(bins[0].from_ms)} to ${duration(bins.at(-1).to_ms)}, at most ${this.most} predictions in a cell` : "No predictions");
    this.draw();
  }

  draw() {
    if (!this.points) return;
    const ratio = devicePixelRatio || 1;
    const { width, height } = this.box.getBoundingClientRect();
    Object.assign(this, { width, height });
    Object.assign(this.canvas, { width: width * ratio, height: height * ratio });
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.clearRect(0, 0, width, height);
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    pen.fillStyle = colour("muted");
    pen.textAlign = "center";
    if (!this.bins.length) return pen.fillText("No predictions in this range", width / 2, height / 2);
    setText(this.hint, `${isDark() ? "brighter" : "darker"}: more predictions`);
    this.axes(pen);
    this.cells(pen);
  }

  axes(pen) {
    const columnWidth = (this.width - LEFT) / this.points.length;
    for (const [i, label] of timeTicks(this.points, knownZone(), this.width - LEFT)) {
      pen.fillText(label, Math.min(LEFT + (i + 0.5) * columnWidth, this.width - 20), this.height - 6);
    }
    pen.textAlign = "right";
    const every = Math.max(1, Math.ceil(this.bins.length / LABELS));
    for (let i = 0; i < this.bins.length; i += every) pen.fillText(duration(this.bins[i].to_ms), LEFT - 8, this.top(i) + this.rowHeight / 2 + 4);
  }

  cells(pen) {
    const scale = isDark() ? DARK : LIGHT;
    const columnWidth = (this.width - LEFT) / this.points.length;
    this.points.forEach((point, x) => point.counts.forEach((number, y) => {
      if (!number) return;
      pen.fillStyle = between(scale, Math.sqrt(number / this.most));
      pen.fillRect(LEFT + x * columnWidth, this.top(y), Math.max(columnWidth - 0.5, 0.7), Math.max(this.rowHeight - 0.5, 0.7));
    }));
  }

  get rowHeight() {
    return (this.height - BOTTOM - TOP) / this.bins.length;
  }

  top(row) {
    return this.height - BOTTOM - (row + 1) * this.rowHeight;
  }

  point(event) {
    if (!this.bins?.length) return;
    const box = this.box.getBoundingClientRect();
    const [left, top] = [event.clientX - box.left, event.clientY - box.top];
    const point = this.points[Math.floor(((left - LEFT) / (this.width - LEFT)) * this.points.length)];
    const row = Math.floor((this.height - BOTTOM - top) / this.rowHeight);
    this.tip.hidden = !point || !this.bins[row];
    if (this.tip.hidden) return;
    const { from_ms: from, to_ms: to } = this.bins[row];
    setText(this.tip, `${dateTime(point.from, knownZone())}: ${count(point.counts[row])} ${point.counts[row] === 1 ? "prediction" : "predictions"} of ${duration(from)} – ${duration(to)}`);
    Object.assign(this.tip.style, { left: `${Math.max(0, Math.min(left + 12, this.width - this.tip.offsetWidth))}px`, top: `${Math.max(top - 34, 0)}px` });
  }
}

const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

function between(scale, share) {
  const place = share * (scale.length - 1);
  const i = Math.min(Math.floor(place), scale.length - 2);
  const mixed = scale[i].map((from, channel) => Math.round(from + (scale[i + 1][channel] - from) * (place - i)));
  return `rgb(${mixed.join()})`;
}
