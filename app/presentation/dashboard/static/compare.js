// Two versions, or two ranges, in the words of /stats/compare.

import { h, replace } from "./dom.js";
import { duration, percent, errorRate, count } from "./format.js";
import { change } from "./view.js";

/** What is compared: names of both sides, and for each the parameters of the API. */
export function sides(choice) {
  if (choice.against) {
    const days = choice.against === "week" ? 7 : 0;
    return { kind: "ranges", days, a: days ? "a week before" : "the time before", b: "this range" };
  }
  return { kind: "versions", a: name(choice.a), b: name(choice.b), versions: [choice.a, choice.b] };
}

const name = (version) => (version === "" ? "no version" : version);

/** The verdict in words, and both sides beside each other. */
export function showVerdict(place, answer, pair, choices) {
  place.hidden = false;
  const rate = answer.success_rate;
  const worse = rate.difference < 0;
  const lines = [
    line(kind(rate, worse), rate.verdict, said(rate.verdict, pair), rate.difference === null ? "" : `error rate ${percent(errorRate(answer.a))} → ${percent(errorRate(answer.b))}${points(rate)}`),
    ...Object.entries(answer.duration.percentiles).map(([p, ratio]) =>
      line(kind(ratio, ratio.ratio > 1), ratio.verdict, `p${p}: ${said(ratio.verdict, pair)}`, ratio.ratio === null ? "" : `${duration(answer.a.percentiles[p])} → ${duration(answer.b.percentiles[p])}${factor(ratio)}`)),
  ];
  replace(place,
    h("div", { class: "row spread" },
      h("h2", {}, h("span", { class: "side-b" }, pair.b), " against ", h("span", { class: "side-a" }, pair.a)),
      h("div", { class: "row" }, choices)),
    h("ul", { class: "verdict" }, lines),
    h("p", { class: "muted" }, `${count(answer.b.total_requests)} predictions against ${count(answer.a.total_requests)}; intervals are sure to ${percent(answer.confidence)}. Predictions are taken as independent.`));
}

const line = (mood, verdict, text, detail) => h("li", { class: mood, "data-verdict": verdict }, h("b", {}, text), detail && h("span", { class: "muted" }, detail));

/** Worse, better, or no difference that chance could not make. */
const kind = (contrast, isWorse) => (contrast.more_than_chance ? (isWorse ? "worse" : "better") : "same");

function said(verdict, { a, b }) {
  return verdict.startsWith("b ") ? `${b} ${verdict.slice(2)} than ${a}` : verdict[0].toUpperCase() + verdict.slice(1);
}

function points({ confidence_interval: interval }) {
  if (!interval) return "";
  const shown = [-interval.high, -interval.low].map((value) => `${value > 0 ? "+" : ""}${(100 * value).toFixed(2)}`);
  return `, a difference of ${shown[0]} to ${shown[1]} points`;
}

function factor({ ratio, confidence_interval: interval }) {
  const digits = (value) => (value === null ? "?" : value.toFixed(2));
  return interval ? `, ${digits(ratio)} times (${digits(interval.low)} to ${digits(interval.high)})` : "";
}

/** Buttons to choose what is compared. */
export function choices(choice, hasVersions) {
  const button = (label, isChosen, changes) => h("button", { type: "button", class: "chip", id: `against-${label.replaceAll(" ", "-")}`, "aria-pressed": String(isChosen), onclick: () => change(changes) }, label);
  return [
    hasVersions && button("Versions", !choice.against, { against: null }),
    button("Time before", choice.against === "before", { against: "before" }),
    button("Week before", choice.against === "week", { against: "week" }),
  ].filter(Boolean);
}
