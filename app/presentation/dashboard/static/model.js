// One model: how often, how well, how fast, in which version, and what went wrong.

import { Panel, TICK_PX, TimePanel } from "./charts.js";
import { choices, showVerdict, sides } from "./compare.js";
import { byId, h, replace, scroller, setText } from "./dom.js";
import { count, dateTime, duration, errorRate, FAILING, percent } from "./format.js";
import { start, tellRange } from "./frame.js";
import { HeatMap } from "./heatmap.js";
import { address, ApiError, get, getPage, ROOT } from "./http.js";
import { predictionTable } from "./lists.js";
import { open, openFromAddress } from "./prediction.js";
import { statusOf, withVersion } from "./status.js";
import { change, earlier, knownZone, param, range, rangeQuery } from "./view.js";

const PERCENTILES = ["50", "95", "99"];
const LISTED = 8;
const SLOW_CANDIDATES = 50;
const MAX_SLOW_PAGES = 10;
const ERRORS = 20;
const SHARED_BINS = 40;
const DROPPED = "Clients report dropped predictions by model: these are of all versions, so of this one at least this share was logged.";
const SUMMARIZED = "Clients that sample have counted these predictions and sent them as summaries: all figures include them, and no list of single ones does.";
const model = param("model_name") ?? "";
document.title = `${model} · Predlog`;
setText(byId("name"), model || "No model is named in the address");

const predictions = new TimePanel(byId("predictions"), "Predictions");
const latency = new TimePanel(byId("latency"), "Latency");
const heat = new HeatMap(byId("heat"), "Latency heat map");
const distribution = new Panel(byId("distribution"), "Distribution of durations");

async function load(signal) {
  if (!model) return replace(byId("summary"), h("p", { class: "empty" }, "Choose one on the ", h("a", { href: new URL("dashboard", ROOT) }, "overview"), "."));
  const asked = range();
  const base = { model_name: model, model_version: param("version") ?? undefined, ...asked };
  const all = { model_name: model, ...asked };
  const ask = (path, params = base) => get(`api/v1/${path}`, params, signal);
  const stats = ask("stats", { ...base, percentiles: PERCENTILES.join() });
  const parts = [
    openFromAddress(signal),
    stats.then((answer) => (tellRange(answer), summary(answer))),
    versionPart(ask, all, signal),
    section("errors", () => ask("errors", { ...base, limit: ERRORS }).then((groups) => versions.then(() => errors(groups)))),
    section("failed", () => ask("predictions", { ...base, was_successful: "false", limit: LISTED }).then(failed)),
    section("slowest", () => stats.then((answer) => slowestPredictions(answer, base, signal).then((found) => slowest(found, answer)))),
  ];
  await Promise.all(parts);
}

let versions = Promise.resolve();
let known = []; // versions with predictions in the range, the newest first

/** Versions, what is compared of them, and the charts that show it. */
async function versionPart(ask, all, signal) {
  const part = Promise.all([ask("stats", { ...all, group_by: "model_version", percentiles: PERCENTILES.join() }), entries(signal)]);
  versions = part.then(([answer, found]) => {
    known = merged(answer.groups, found);
    status(found);
    return found;
  }, () => {});
  await part;
  const choice = chosen();
  versionTable(choice);
  const base = { ...all, model_version: param("version") ?? undefined };
  if (!choice.against && (choice.a === undefined || choice.b === undefined)) {
    byId("compare").hidden = true;
    if (known.length) offer();
    return plain(ask, base);
  }
  return compared(ask, base, choice);
}

/** The comparison that the address asks for; else the newest version against the one before it. Both differ. */
function chosen() {
  const against = param("against");
  if (against === "before" || against === "week") return { against };
  if (param("version") !== null) return {};
  const names = known.map((version) => version.model_version ?? "");
  const b = param("b") ?? names.find((name) => name !== param("a"));
  return { a: [param("a"), ...names].find((name) => name !== null && name !== b), b };
}

function offer() {
  byId("compare").hidden = false;
  replace(byId("compare"), h("div", { class: "row spread" }, h("h2", {}, "Compare this range with"), h("div", { class: "row" }, choices({ against: "none" }, false))));
}

async function plain(ask, base) {
  const series = ask("stats/timeseries", { ...base, bucket: "auto", percentiles: PERCENTILES.join() });
  const histogram = ask("stats/histogram", { ...base, bucket: "auto", bins: 40 });
  await Promise.all([
    charts(["predictions", "latency"], [series], ({ points }) => {
      showPredictions(points);
      latency.set({ points, format: duration, series: PERCENTILES.map((p, i) => line(`p${p}`, points.map((point) => point.percentiles[p]), ["blue", "blue", "orange"][i], p === "50")) });
    }),
    charts(["heat", "distribution"], [histogram], (answer) => {
      heat.set(answer);
      showDistribution([["Predictions", answer, "blue"]]);
    }),
  ]);
}

async function compared(ask, base, choice) {
  const pair = sides(choice);
  const resolved = pair.kind === "ranges" ? (await ask("stats", { ...base, percentiles: "50" })).range : null;
  const before = resolved && earlier(resolved, pair.days);
  const of = pair.kind === "ranges"
    ? [{ ...base, ...before }, { ...base, ...resolved }]
    : pair.versions.map((version) => ({ ...base, model_version: version }));
  const question = pair.kind === "ranges"
    ? { model_name: model, model_version: base.model_version, from_a: before.from, to_a: before.to, from_b: resolved.from, to_b: resolved.to }
    : { ...base, model_version: undefined, version_a: pair.versions[0], version_b: pair.versions[1] };
  const buttons = choices(choice, known.length > 1);
  const seriesOf = (params) => ask("stats/timeseries", { ...params, bucket: "auto", percentiles: PERCENTILES.join() });
  const total = seriesOf(base);
  await Promise.all([
    section("compare", () => ask("stats/compare", { ...question, percentiles: PERCENTILES.join() }).then((verdict) => showVerdict(byId("compare"), verdict, pair, buttons)), buttons),
    charts(["predictions"], [total], ({ points }) => showPredictions(points)),
    charts(["latency"], [total, ...of.map(seriesOf)], ({ points }, a, b) => showBoth(points, pair, a, b)),
    charts(["heat"], [ask("stats/histogram", { ...base, bucket: "auto", bins: 40 })], (whole) => heat.set(whole)),
    charts(["distribution"], of.map((side) => ask("stats/histogram", { ...side, bins: 200 })), (a, b) => showDistribution([[pair.b, b, "orange"], [pair.a, a, "blue"]])),
  ]);
}

function showBoth(points, pair, a, b) {
  const values = (answer, p) => points.map((_, i) => answer.points[i]?.percentiles[p] ?? null);
  latency.set({ points, format: duration, hint: "p50 and p95 of both", series: ["50", "95"].flatMap((p) => [
    line(`p${p} of ${pair.b}`, values(b, p), "orange", p === "50"), line(`p${p} of ${pair.a}`, values(a, p), "blue", p === "50")]) });
}

/** Draw charts from answers; if one of these is refused, the reason stands in place of the charts. */
async function charts(ids, answers, show) {
  try {
    const all = await Promise.all(answers);
    for (const id of ids) sayInstead(id, null);
    show(...all);
  } catch (error) {
    const reason = reasonOf(error);
    for (const id of ids) sayInstead(id, reason);
  }
}

/** Put a reason in place of a chart, or with null the chart again. */
function sayInstead(id, reason) {
  const [figure, ...said] = byId(id).children;
  figure.hidden = reason !== null;
  for (const element of said) element.remove();
  if (reason !== null) byId(id).append(h("section", { class: "panel" }, h("h2", {}, figure.querySelector("h2").textContent), h("p", { class: "empty" }, reason)));
}

const line = (label, values, color, dash) => ({ label, values, color, dash, show: duration });

function showPredictions(points) {
  predictions.set({
    points, stacked: true, format: count,
    series: [
      { label: "Failed", type: "bar", color: "red", values: points.map((point) => point.failed_requests), show: count },
      { label: "Succeeded", type: "bar", color: "blue", values: points.map((point) => point.successful_requests), show: count },
    ],
  });
}

/** One histogram as counts; two as shares of their predictions, over bins that lie close enough to be read together. */
function showDistribution(sidesOf) {
  const [[, first]] = sidesOf;
  const isOne = sidesOf.length === 1;
  const bins = isOne ? first.bins : ladder(sidesOf.map(([, histogram]) => histogram.bins));
  const titles = bins.map((bin) => `${duration(bin.from_ms)} – ${duration(bin.to_ms)}`);
  const every = Math.max(1, Math.ceil(bins.length / Math.min(8, Math.floor(distribution.box.clientWidth / TICK_PX))));
  distribution.set({
    head: "Duration", labels: titles, titles, hint: isOne ? "" : "share of the predictions of each",
    ticks: bins.flatMap((bin, i) => (i % every ? [] : [[i, duration(bin.to_ms)]])),
    format: isOne ? count : percent,
    series: sidesOf.map(([label, histogram, color]) => ({
      label, color, type: isOne ? "bar" : "line", fill: "origin", isStep: isOne ? undefined : "middle",
      values: isOne ? bins.map((bin) => bin.count) : shares(histogram, bins), show: isOne ? count : percent,
    })),
  });
}

/** Bins that reach over those of both sides: they begin at a bound of the finer bins, and hold whole ones of these. */
function ladder(all) {
  const some = all.flat().filter((bin) => bin.from_ms > 0);
  if (!some.length) return [];
  const low = Math.min(...some.map((bin) => bin.from_ms));
  const steps = Math.log(Math.max(...some.map((bin) => bin.to_ms)) / low);
  const step = Math.max(...some.map((bin) => Math.log(bin.to_ms / bin.from_ms)));
  const width = step * Math.ceil(steps / step / SHARED_BINS);
  const bound = (i) => low * Math.exp(i * width);
  return Array.from({ length: Math.max(1, Math.ceil(steps / width - 1e-6)) }, (_, i) => ({ from_ms: bound(i), to_ms: bound(i + 1) }));
}

/** The share of predictions in each bin; a finer bin that lies in two of them is divided between both. */
function shares(histogram, bins) {
  const sums = bins.map(() => 0);
  const width = Math.log(bins[0]?.to_ms / bins[0]?.from_ms);
  const place = (ms) => Math.min(bins.length, Math.max(0, Math.log(Math.max(ms, 1e-300) / bins[0].from_ms) / width));
  for (const bin of histogram.bins) {
    const [from, to] = [place(bin.from_ms), place(bin.to_ms)];
    for (let i = Math.min(Math.floor(from + 1e-6), bins.length - 1); i < Math.max(to - 1e-6, from + 1e-9); i++) {
      const part = to > from ? (Math.min(to, i + 1) - Math.max(from, i)) / (to - from) : 1;
      sums[i] += bin.count * part;
    }
  }
  return sums.map((sum) => (histogram.total_requests ? sum / histogram.total_requests : null));
}

/** Run a part of the page that may fail alone: the rest stays as it is, and so do the part's `buttons`. */
async function section(id, task, buttons) {
  try {
    await task();
  } catch (error) {
    const place = byId(id);
    const reason = reasonOf(error);
    place.hidden = false;
    replace(place, h("div", { class: "row spread" }, h("h2", {}, place.getAttribute("aria-label")), buttons && h("div", { class: "row" }, buttons)), h("p", { class: "empty" }, reason));
  }
}

/** Why the API refused; any other error, and the question for a key, is the whole page's. */
function reasonOf(error) {
  if (!(error instanceof ApiError) || error.status === 401) throw error;
  return error.message;
}

async function entries(signal) {
  const found = [];
  for (let next = address("api/v1/models", { model_name: model, limit: 200 }); next; ) {
    const page = await getPage(next, signal);
    found.push(...page.body);
    next = page.next;
  }
  return found;
}

/** The versions with predictions in the range, with when each was first seen, the newest first. */
function merged(groups, found) {
  const seen = new Map(found.map((entry) => [entry.model_version, entry]));
  return groups.filter((group) => group.total_requests)
    .map((group) => ({ ...group, entry: seen.get(group.model_version) }))
    .sort((one, other) => (other.entry?.first_seen ?? "").localeCompare(one.entry?.first_seen ?? ""));
}

function status(found) {
  const { kind, text } = found.length ? statusOf(found.reduce(withVersion, undefined)) : { kind: "unknown", text: "Never logged" };
  replace(byId("status"), h("span", { class: `badge badge-${kind}` }, text));
  const version = param("version");
  replace(byId("version"), version !== null && h("button", { type: "button", class: "chip", id: "all-versions", onclick: () => change({ version: null }) }, `Version ${version || "none"} only ✕`));
}

function summary(answer) {
  const rate = errorRate(answer);
  const isBound = param("version") !== null && answer.dropped > 0;
  const tiles = [
    ["Predictions", count(answer.total_requests), answer.total_requests, answer.summarized ? `${count(answer.summarized)} in summaries` : "", "", SUMMARIZED],
    ["Error rate", percent(rate), rate, answer.failed_requests ? `${count(answer.failed_requests)} failed` : "none failed", rate > FAILING && "bad"],
    ...PERCENTILES.map((p) => [`p${p}`, duration(answer.percentiles[p]), answer.percentiles[p], p === "99" ? `slowest ${duration(answer.max_duration_ms)}` : p === "50" ? `average ${duration(answer.average_duration_ms)}` : ""]),
    ["Complete", `${isBound ? "≥ " : ""}${percent(answer.completeness)}`, answer.completeness, answer.dropped ? `${count(answer.dropped)} dropped by clients${isBound ? ", all versions" : ""}` : "nothing dropped", answer.dropped && "warn", isBound && DROPPED],
  ];
  const element = byId("summary");
  element.removeAttribute("aria-busy");
  replace(element, tiles.map(([label, text, value, hint, mood, title]) =>
    h("div", { class: `tile ${mood || ""}` }, h("span", { class: "label" }, label), h("span", { class: "figure", "data-figure": label, "data-value": value ?? "" }, text), h("span", { class: "hint", title: hint ? title : null }, hint))));
}

function versionTable(choice) {
  const compare = (side, name) => {
    const other = side === "a" ? "b" : "a";
    const kept = choice[other] === name ? choice[side] : choice[other]; // both sides change places rather than be the same
    change({ [side]: name, [other]: kept ?? null, against: null, version: null });
  };
  const radio = (side, version) => h("input", {
    type: "radio", name: `side-${side}`, id: `side-${side}-${known.indexOf(version)}`, checked: !choice.against && choice[side] === (version.model_version ?? ""),
    "aria-label": `Compare ${side === "a" ? "with" : ""} ${version.model_version ?? "no version"}`,
    onchange: () => compare(side, version.model_version ?? ""),
  });
  const zone = knownZone();
  const several = known.length > 1;
  replace(byId("versions"), h("h2", {}, "Versions"),
    known.length ? scroller("Versions", h("table", {},
      h("thead", {}, h("tr", {}, several && [h("th", { scope: "col" }, "Show"), h("th", { scope: "col" }, "against")], ["Version", "Predictions", "Error rate", ...PERCENTILES.map((p) => `p${p}`), "First seen", "Last seen"].map((name, i) => h("th", { scope: "col", class: i > 0 && i < 6 && "number" }, name)))),
      h("tbody", {}, known.map((version) => h("tr", {},
        several && [h("td", {}, radio("b", version)), h("td", {}, radio("a", version))],
        h("th", { scope: "row", class: "cut" }, h("a", { id: `version-${encodeURIComponent(version.model_version ?? "")}`, href: `?${new URLSearchParams([["model_name", model], ["version", version.model_version ?? ""], ...new URLSearchParams(rangeQuery().slice(1))])}` }, version.model_version ?? "no version")),
        h("td", { class: "number", "data-value": version.total_requests }, count(version.total_requests)),
        h("td", { class: `number ${errorRate(version) > FAILING ? "bad" : ""}`, "data-value": errorRate(version) ?? "" }, percent(errorRate(version))),
        PERCENTILES.map((p) => h("td", { class: "number", "data-value": version.percentiles[p] }, duration(version.percentiles[p]))),
        ["first_seen", "last_seen"].map((name) => h("td", { class: "when" }, version.entry ? dateTime(version.entry[name], zone) : "–"))))))) : h("p", { class: "empty" }, "No predictions in this range."));
}

/** "New" is an error whose first prediction was of a version that is not the model's first one. */
function errors(groups) {
  const zone = knownZone();
  const first = known.length ? known.at(-1).model_version : undefined;
  const isNew = (group) => known.length > 1 && group.first_version !== first && group.versions.includes(group.first_version);
  replace(byId("errors"), h("h2", {}, "Errors"),
    groups.length ? scroller("Errors", h("table", { class: "errors" },
      h("thead", {}, h("tr", {}, ["Error", "Predictions", "First seen", "Last seen", "Versions"].map((name) => h("th", { scope: "col", class: name === "Predictions" && "number" }, name)))),
      h("tbody", {}, groups.map((group) => h("tr", { "data-fingerprint": group.fingerprint },
        h("th", { scope: "row", class: "pattern" }, h("button", { type: "button", id: `error-${group.fingerprint}`, class: "link", title: "Open the latest of these predictions", onclick: () => open(group.last_id) }, group.pattern ?? "without an error"),
          isNew(group) && h("span", { class: "badge badge-bad" }, `new in ${group.first_version ?? "no version"}`)),
        h("td", { class: "number", "data-value": group.count }, count(group.count)),
        h("td", { class: "when" }, dateTime(group.first_seen, zone)),
        h("td", { class: "when" }, dateTime(group.last_seen, zone)),
        h("td", { class: "cut" }, group.versions.map((version) => version ?? "none").join(", "))))))) : h("p", { class: "empty" }, "No prediction has failed in this range."));
}

function failed(found) {
  replace(byId("failed"), heading("Failed predictions", { was_successful: "false" }),
    found.length ? predictionTable(found, { label: "Failed predictions" }) : h("p", { class: "empty" }, "None in this range."));
}

/** All from a little below the percentile that leaves about as many predictions as are shown, and the slowest of them. */
async function slowestPredictions(answer, base, signal) {
  const whole = answer.total_requests - answer.summarized; // only these can be listed
  if (!whole) return [];
  const share = Math.max(0, 100 * (1 - SLOW_CANDIDATES / 2 / whole));
  const label = share.toFixed(6);
  const { percentiles } = await get("api/v1/stats", { ...base, percentiles: label }, signal);
  const least = Math.min(Object.values(percentiles)[0] / 1.03, answer.max_duration_ms);
  const found = [];
  let next = address("api/v1/predictions", { ...base, min_duration_ms: least, limit: 200 });
  for (let pages = 0; next && pages < MAX_SLOW_PAGES; pages++) {
    const page = await getPage(next, signal);
    found.push(...page.body);
    next = page.next;
  }
  return found.sort((one, other) => other.duration_ms - one.duration_ms).slice(0, LISTED);
}

function slowest(found, answer) {
  const nothing = answer.summarized ? "No slow prediction of this range was sent whole." : "No predictions in this range.";
  replace(byId("slowest"), heading("Slowest predictions", found.length ? { min_duration_ms: found.at(-1).duration_ms } : {}),
    found.length ? predictionTable(found, { label: "Slowest predictions" }) : h("p", { class: "empty" }, nothing));
}

const heading = (title, filters) =>
  h("div", { class: "row spread" }, h("h2", {}, title), h("a", { id: `explore-${title.replaceAll(" ", "-")}`, href: new URL(`dashboard/explore${rangeQuery({ model_name: model, model_version: param("version"), ...filters })}`, ROOT) }, "Explore"));

start(load);
