// Every model over one range: what it did, how well, how fast, and whether it still does.

import { byId, h, replace, setText } from "./dom.js";
import { count, dateTime, duration, errorRate, exactCount, FAILING, percent, span } from "./format.js";
import { refreshAfter, start, tellRange } from "./frame.js";
import { address, ApiError, getPage, ROOT } from "./http.js";
import { draw, sparkline } from "./sparkline.js";
import { statusOf, withVersion } from "./status.js";
import { LongTable } from "./table.js";
import { knownZone, param, range, rangeQuery } from "./view.js";
import { welcome } from "./welcome.js";

const PERCENTILES = ["50", "95", "99"];
const ROW_PX = 46;
const PAGE = 1000;
const AT_ONCE = 50; // the API takes so many names
const MAX_ADDRESS = 6000; // characters of names in one address
const STATUS_S = 60;

const COLUMNS = [
  { name: "model", label: "Model", value: (row) => row.key, text: true },
  { name: "trend", label: "Over time" },
  { name: "predictions", label: "Predictions", value: (row) => row.tally.total_requests, show: (row) => count(row.tally.total_requests) },
  { name: "errors", label: "Error rate", value: (row) => errorRate(row.tally), show: (row) => percent(errorRate(row.tally)) },
  ...PERCENTILES.map((p) => ({ name: `p${p}`, label: `p${p}`, value: (row) => row.tally.percentiles[p], show: (row) => (p in row.tally.percentiles ? duration(row.tally.percentiles[p]) : "…") })),
  { name: "complete", label: "Complete", value: (row) => row.tally.completeness, show: (row) => percent(row.tally.completeness) },
  { name: "status", label: "Status", value: (row) => silence(row) },
];
const FILTERS = {
  silent: ["Silent", (row) => row.status?.silent === true],
  failing: ["Failing", (row) => errorRate(row.tally) > FAILING],
  incomplete: ["Incomplete", (row) => row.tally.completeness !== null && row.tally.completeness < 1],
};

let rows = [];
let statuses = new Map();
let statusesAt = 0;
let trends = new Map();
let asked; // the range that was asked for last
let table;

async function load(signal) {
  asked = range();
  const query = { ...asked, percentiles: PERCENTILES.join(), limit: PAGE };
  const isFirst = !rows.length;
  let next = address("api/v1/stats/models", query);
  const found = [];
  if (isFirst) countFirst({ ...query, percentiles: "" }, signal);
  while (next) {
    const page = await getPage(next, signal);
    found.push(...page.body.models.map((tally) => ({ key: tally.model_name, tally, status: statuses.get(tally.model_name) })));
    next = page.next;
    if (next && isFirst) show((rows = [...found]), page.body);
    else if (!next) show((rows = found), page.body);
  }
  requestAnimationFrame(() => performance.mark("figures"));
  if (!rows.length) return;
  await loadTrends([...table.rows.keys()], signal, true);
  await loadStatuses(signal);
}

/** Counts are there long before percentiles: at first they are shown alone. */
async function countFirst(query, signal) {
  const page = await getPage(address("api/v1/stats/models", query), signal).catch(() => null);
  if (!page?.body.models.length || rows.length || signal.aborted) return;
  rows = page.body.models.map((tally) => ({ key: tally.model_name, tally }));
  show(rows, page.body);
  requestAnimationFrame(() => performance.mark("rows"));
}

function show(found, answer) {
  tellRange(answer);
  refreshAfter(found.length ? undefined : 2000);
  byId("models").removeAttribute("aria-busy");
  byId("summary").removeAttribute("aria-busy");
  if (!found.length) {
    byId("summary").replaceChildren();
    table = undefined;
    return welcome(byId("models"));
  }
  if (!table) build();
  arrange();
}

function build() {
  const find = h("input", { id: "search", type: "search", placeholder: "Find a model", "aria-label": "Find a model (press /)", spellcheck: "false", autocomplete: "off" });
  find.addEventListener("input", () => (quietly({ search: find.value }), arrange(), scrollTo({ top: 0 })));
  table = new LongTable({ head: head(), make, update, height: ROW_PX, label: "Models", onRows });
  replace(byId("models"),
    h("div", { class: "tools" }, find, h("div", { id: "filters", class: "chips", role: "group", "aria-label": "Show only" }), h("span", { id: "found", class: "muted", role: "status" }), h("span", { id: "no-trends", class: "muted", role: "status" })),
    h("div", { class: "panel flush" }, table.element));
}

const head = () =>
  h("tr", { "aria-rowindex": 1 }, COLUMNS.map((column) =>
    h("th", { scope: "col", class: `col-${column.name}` },
      column.value ? h("button", { type: "button", id: `sort-${column.name}`, onclick: () => sortBy(column) }, column.label, h("span", { class: "arrow", "aria-hidden": "true" })) : column.label)));

/** Change the address without loading anew: the figures are the same, only their order or choice is not. */
function quietly(changes) {
  const next = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
  history.replaceState(null, "", `?${next}`);
}

function sortBy(column) {
  const [name, isDown] = order();
  const down = name === column.name ? !isDown : !column.text;
  quietly({ sort: `${down ? "-" : ""}${column.name}` });
  arrange();
}

function order() {
  const text = (param("sort") ?? "-predictions").replace("calls", "predictions"); // the name in older addresses
  return [text.replace(/^-/, ""), text.startsWith("-")];
}

/** Filter, sort and show what is there. */
function arrange() {
  const [name, isDown] = order();
  const column = COLUMNS.find((one) => one.name === name && one.value) ?? COLUMNS[2];
  const search = param("search") ?? "";
  const find = byId("search");
  if (find.value !== search) find.value = search; // after a step back; what is being typed is in the address already
  const words = search.toLowerCase();
  const only = FILTERS[param("only")]?.[1];
  const chosen = rows.filter((row) => row.key.toLowerCase().includes(words) && (!only || only(row)));
  const sign = isDown ? -1 : 1;
  const keys = new Map(chosen.map((row) => [row, column.value(row)]));
  chosen.sort((one, other) => sign * compare(keys.get(one), keys.get(other), sign) || compare(one.key, other.key, 1));
  for (const cell of table.element.querySelectorAll("th")) {
    const isThis = cell.classList.contains(`col-${column.name}`);
    isThis ? cell.setAttribute("aria-sort", isDown ? "descending" : "ascending") : cell.removeAttribute("aria-sort");
  }
  table.set(chosen);
  setText(byId("found"), chosen.length === rows.length ? "" : `${exactCount(chosen.length)} of ${exactCount(rows.length)} models`);
  chips();
  summary();
}

/** What is not known comes last, whichever way. */
function compare(one, other, sign) {
  if (one === null || one === undefined) return other === null || other === undefined ? 0 : sign;
  if (other === null || other === undefined) return -sign;
  return one < other ? -1 : one > other ? 1 : 0;
}

function chips() {
  const chosen = param("only");
  replace(byId("filters"), Object.entries(FILTERS).map(([name, [label, test]]) => {
    const number = rows.filter(test).length;
    return (number || chosen === name) && h("button", {
      type: "button", id: `only-${name}`, class: `chip chip-${name}`, "aria-pressed": String(chosen === name),
      onclick: () => (quietly({ only: chosen === name ? null : name }), arrange()),
    }, label, " ", h("b", {}, exactCount(number)));
  }));
}

function summary() {
  const sum = (of) => rows.reduce((total, row) => total + of(row.tally), 0);
  const [all, failed, dropped] = [sum((t) => t.total_requests), sum((t) => t.failed_requests), sum((t) => t.dropped)];
  const silent = rows.filter(FILTERS.silent[1]).length;
  const known = rows.some((row) => row.status);
  tiles(byId("summary"), [
    ["Models", count(rows.length), rows.length],
    ["Predictions", count(all), all],
    ["Error rate", percent(all ? failed / all : null), all ? failed / all : "", failed ? `${count(failed)} failed` : "none failed", failed / all > FAILING && "bad"],
    ["Silent", known ? count(silent) : "…", silent, known ? (silent ? "no prediction for ten usual gaps" : "all are active") : "", silent && "warn"],
    ["Complete", percent(all + dropped ? all / (all + dropped) : null), all + dropped ? all / (all + dropped) : "", dropped ? `${count(dropped)} dropped by clients` : "nothing dropped", dropped && "warn"],
  ]);
}

function tiles(element, items) {
  if (element.children.length !== items.length) {
    replace(element, items.map(([label]) => h("div", { class: "tile" }, h("span", { class: "label" }, label), h("span", { class: "figure" }), h("span", { class: "hint" }))));
  }
  items.forEach(([, text, value, hint, mood], i) => {
    const tile = element.children[i];
    tile.className = `tile ${mood || ""}`;
    setText(tile.children[1], text);
    tile.children[1].dataset.value = value;
    setText(tile.children[2], hint || "");
  });
}

function make(key) {
  const link = h("a", { href: new URL(`dashboard/model${rangeQuery({ model_name: key })}`, ROOT), title: key }, key);
  return h("tr", {}, COLUMNS.map((column) => {
    if (column.name === "model") return h("th", { scope: "row", class: "col-model" }, link);
    return h("td", { class: `col-${column.name}` }, column.name === "trend" && sparkline());
  }));
}

function update(row, item) {
  row.querySelector("a").search = rangeQuery({ model_name: item.key });
  COLUMNS.forEach((column, i) => {
    const cell = row.children[i];
    if (column.show) {
      setText(cell, column.show(item));
      cell.dataset.value = column.value(item) ?? "";
    }
  });
  row.classList.toggle("failing", FILTERS.failing[1](item));
  row.classList.toggle("idle", !item.tally.total_requests);
  row.querySelector(".col-complete").classList.toggle("warn", FILTERS.incomplete[1](item));
  const trend = trends.get(item.key);
  if (trend) draw(row.querySelector(".spark"), trend);
  status(row.querySelector(".col-status"), item);
}

/** Seconds since the last prediction of a silent model; less than nothing for one that is not. */
function silence({ status }) {
  if (!status) return null;
  const ago = Math.max(0, Date.now() - status.lastSeen); // the browser's clock may be behind
  return status.silent ? ago / 1000 : -1e12 / (1 + ago);
}

function status(cell, { status: known }) {
  const { kind, text } = known ? statusOf(known) : { kind: "unknown", text: "…" };
  if (cell.dataset.kind !== kind) replace(cell, h("span", { class: `badge badge-${kind}` }));
  cell.dataset.kind = kind;
  setText(cell.firstChild, text);
  if (known) cell.firstChild.title = `Last prediction ${dateTime(known.lastSeen, knownZone())}, ${span((Date.now() - known.lastSeen) / 1000)} ago`;
}

let pending;

function onRows(keys) {
  clearTimeout(pending);
  const missing = keys.filter((key) => !trends.has(key));
  if (missing.length) pending = setTimeout(() => loadTrends(missing, undefined, false).catch(() => {}), 80);
}

/** The counts by time of the rows that can be seen; with `anew` those of all others are forgotten. They may fail alone. */
async function loadTrends(keys, signal, anew) {
  const of = asked;
  let parts = [];
  let problem = "";
  try {
    parts = await Promise.all(portions(keys).map((names) => loadSeries({ ...of, model_name: names }, signal)));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 401) throw error;
    problem = `No predictions over time: ${error.message}`;
  }
  if (of !== asked) return;
  if (anew) trends = new Map();
  for (const model of parts.flat()) trends.set(model.model_name, model.series);
  for (const [key, row] of table?.rows ?? []) {
    const spark = row.querySelector(".spark");
    trends.has(key) ? draw(spark, trends.get(key)) : spark.replaceWith(sparkline());
  }
  setText(byId("no-trends"), problem);
}

/** The models of a query with their counts by time; over years a page has fewer of them. */
async function loadSeries(query, signal) {
  const found = [];
  let next = address("api/v1/stats/models", { ...query, bucket: "auto", percentiles: "50", limit: AT_ONCE });
  while (next) {
    const page = await getPage(next, signal);
    found.push(...page.body.models);
    next = page.next;
  }
  return found;
}

function portions(names) {
  const found = [];
  let length = Infinity;
  for (const name of names) {
    const size = encodeURIComponent(name).length + 12;
    if (length + size > MAX_ADDRESS || found.at(-1).length === AT_ONCE) {
      found.push([]);
      length = 0;
    }
    found.at(-1).push(name);
    length += size;
  }
  return found;
}

/** Since when each model has been silent, from the list of versions; that list is long, so not each time. */
async function loadStatuses(signal) {
  if (Date.now() - statusesAt > STATUS_S * 1000) {
    const found = new Map();
    let next = address("api/v1/models", { limit: 200 });
    while (next) {
      const page = await getPage(next, signal);
      for (const version of page.body) found.set(version.model_name, withVersion(found.get(version.model_name), version));
      next = page.next;
    }
    statuses = found;
    statusesAt = Date.now();
  }
  for (const row of rows) row.status = statuses.get(row.key);
  arrange();
}

start(load);
