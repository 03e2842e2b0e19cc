// Chart.js with what all our charts share: the clock of a zone below, a range chosen by dragging, figures as a table.
/* global Chart */

import { h, replace, setText } from "./dom.js";
import { clock, dateTime, dayMonth, wall } from "./format.js";
import { change, knownZone } from "./view.js";

export const TICK_PX = 70;
const MIN_DRAG_PX = 8;
const STEPS = [1, 5, 10, 15, 30, 60, 120, 180, 360, 720].map((minutes) => minutes * 60_000);
const DAY = 86400_000;

/** A colour of the stylesheet, as it is in this theme. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A panel with a title, a place to draw, and the same figures as a table that opens. */
export class Panel {
  constructor(place, title, hint = "") {
    this.hint = h("span", { class: "muted" }, hint);
    this.legend = h("ul", { class: "legend" });
    this.canvas = h("canvas", { role: "img", "aria-label": title });
    this.box = h("div", { class: "chart" }, this.canvas);
    this.figures = h("div", { class: "figures" });
    this.details = h("details", {}, h("summary", {}, "Figures"), this.figures);
    this.details.addEventListener("toggle", () => this.fillTable());
    this.title = title;
    replace(place, h("figure", { class: "panel" }, h("figcaption", {}, h("h2", {}, title), this.hint, this.legend), this.box, this.details));
    for (const [target, event] of [[window, "themechange"], [matchMedia("(prefers-color-scheme: dark)"), "change"]]) {
      target.addEventListener(event, () => this.data && this.draw());
    }
  }

  /** Show `series` [{label, values, color, show, …}] over `labels`. */
  set(data) {
    this.data = data;
    const names = data.series.map((one) => one.label).join();
    if (this.names !== names) {
      replace(this.legend, data.series.map((one) => h("li", { class: `mark-${one.color} ${one.dash ? "dashed" : ""}` }, one.label)));
      this.names = names;
    }
    setText(this.hint, data.hint ?? "");
    this.canvas.setAttribute("aria-label", `${this.title}: ${data.series.map((one) => one.label).join(", ")}. The figures are below.`);
    this.draw();
    this.fillTable();
  }

  fillTable() {
    if (!this.details.open || !this.data) return;
    const { labels, series, head } = this.data;
    replace(this.figures, h("table", { tabindex: "0" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, head), series.map((one) => h("th", { scope: "col" }, one.label)))),
      h("tbody", {}, labels.map((label, i) => h("tr", {}, h("th", { scope: "row" }, label), series.map((one) => h("td", { "data-value": one.values[i] ?? "" }, one.show(one.values[i]))))))));
  }

  draw() {
    if (!globalThis.Chart) return replace(this.box, h("p", { class: "empty" }, "Charts need the package django-unfold: install predlog-server[dashboard]."));
    const config = configuration(this.data);
    if (this.chart) Object.assign(this.chart, { options: config.options }), this.merge(config.data), this.chart.update("none");
    else this.chart = new Chart(this.canvas, config);
  }

  merge(data) {
    this.chart.data.labels = data.labels;
    this.chart.data.datasets = data.datasets;
  }
}

/** A panel over time: `points` are [{from, to}]; dragging across it chooses a range. */
export class TimePanel extends Panel {
  constructor(place, title, hint) {
    super(place, title, hint);
    dragging(this);
  }

  set({ points, ...data }) {
    this.points = points;
    const zone = knownZone();
    super.set({ ...data, head: "From", labels: points.map((point) => dateTime(point.from, zone)), ticks: timeTicks(points, zone, this.box.clientWidth) });
  }
}

function configuration({ labels, series, ticks, stacked, format, titles }) {
  const [grid, text] = [colour("line"), colour("muted")];
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
  return {
    type: "line",
    data: { labels, datasets: series.map((one) => dataset(one, labels.length)) },
    options: {
      animation: false, maintainAspectRatio: false, responsive: true, normalized: true,
      interaction: { mode: "index", intersect: false },
      plugins: {
        legend: { display: false },
        tooltip: {
          backgroundColor: colour("text"), titleColor: colour("panel"), bodyColor: colour("panel"), titleFont: font, bodyFont: font, padding: 10, boxPadding: 4, usePointStyle: true,
          callbacks: { title: ([item]) => (titles ?? labels)[item.dataIndex], label: (item) => ` ${item.dataset.label}: ${series[item.datasetIndex].show(item.raw)}` },
        },
      },
      scales: {
        x: {
          type: "category", offset: true, stacked, grid: { display: false }, border: { color: grid },
          afterBuildTicks: (scale) => (scale.ticks = ticks.map(([value]) => ({ value }))),
          ticks: { autoSkip: false, maxRotation: 0, color: text, font, callback: (value) => ticks.find(([at]) => at === value)?.[1] },
        },
        y: { beginAtZero: true, stacked, grid: { color: grid }, border: { display: false }, ticks: { color: text, font, maxTicksLimit: 6, callback: format } },
      },
    },
  };
}

function dataset({ label, values, color, type = "line", dash, fill, isStep }, length) {
  const main = colour(color);
  const alone = values.map((value, i) => (value !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null ? 2.5 : 0));
  return type === "bar"
    ? { type, label, data: values, backgroundColor: main, barPercentage: length > 90 ? 1 : 0.94, categoryPercentage: 1, stack: "all" }
    : { type, label, data: values, borderColor: main, backgroundColor: main + "33", fill: fill ?? false, borderWidth: 2, borderDash: dash ? [6, 4] : [], pointRadius: alone, pointHoverRadius: 4, pointBackgroundColor: main, tension: 0, stepped: isStep };
}

/** The points that begin at a round time of the zone's clock, so many as fit, and what to write below them. */
export function timeTicks(points, zone, width) {
  const most = Math.max(2, Math.floor(width / TICK_PX));
  const walls = points.map((point) => wall(point.from, zone));
  const isRound = (step) => walls.flatMap((at, i) => (at % step === 0 ? [i] : []));
  const some = STEPS.map(isRound).find((found) => found.length && found.length <= most);
  if (some) return some.map((i) => [i, walls[i] % DAY === 0 ? dayMonth(points[i].from, zone) : clock(points[i].from, zone)]);
  const days = isRound(DAY);
  const every = Math.ceil(days.length / most) || 1;
  return days.filter((_, i) => i % every === 0).map((i) => [i, dayMonth(points[i].from, zone)]);
}

/** Choose the range between two places of a chart over time by dragging from one to the other. */
export function dragging(panel, indexAt = (x) => panel.chart?.scales.x.getValueForPixel(x)) {
  const band = h("div", { class: "band", hidden: true });
  panel.box.append(band);
  let start = null;
  const place = (event) => event.clientX - panel.box.getBoundingClientRect().left;
  panel.canvas.addEventListener("pointerdown", (event) => event.button === 0 && event.pointerType === "mouse" && (start = place(event)));
  addEventListener("pointermove", (event) => {
    if (start === null) return;
    const now = place(event);
    band.hidden = Math.abs(now - start) < MIN_DRAG_PX;
    Object.assign(band.style, { left: `${Math.min(start, now)}px`, width: `${Math.abs(now - start)}px` });
  });
  addEventListener("pointerup", (event) => {
    if (start === null) return;
    const places = [start, place(event)].sort((one, other) => one - other);
    start = null;
    if (band.hidden) return;
    band.hidden = true;
    const last = panel.points.length - 1;
    const [from, to] = places.map((x) => Math.max(0, Math.min(last, indexAt(x) ?? 0)));
    change({ from: new Date(panel.points[from].from).toISOString(), to: new Date(panel.points[to].to).toISOString(), range: null });
  });
}
