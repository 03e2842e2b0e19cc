// The predictions themselves, newest first, with every filter that the API has.

import { byId, h, replace, setText } from "./dom.js";
import { start, tellRange } from "./frame.js";
import { address, ApiError, get, getPage } from "./http.js";
import { predictionRow, predictionTable } from "./lists.js";
import { openFromAddress } from "./prediction.js";
import { change, param, range } from "./view.js";

const PAGE = 100;
const MAX_EMPTY_PAGES = 20;
const FILTERS = ["model_name", "model_version", "was_successful", "min_duration_ms"];
const LIST = { withModel: true, label: "Predictions" };
let list; // the one that is shown

async function load(signal) {
  filters();
  await Promise.all([openFromAddress(signal), newest(signal)]);
}

async function newest(signal) {
  const query = location.search.replace(/&?open=\d+/, "");
  if (staysFor(query)) return;
  const asked = range();
  // What a date means is said by an answer about the same range.
  const [answer, found] = await Promise.all([
    get("api/v1/stats", { ...asked, model_name: param("model_name"), percentiles: "50" }, signal),
    read(address("api/v1/predictions", { ...filtersBy(param), ...asked, limit: PAGE }), signal),
  ]);
  if (staysFor(query)) return;
  tellRange(answer);
  list?.controller.abort();
  list = { query, pages: 1, controller: new AbortController() };
  show(found);
}

/** Older predictions that were asked for stay, and those on their way find the rows that they follow. */
const staysFor = (query) => list?.query === query && (list.pages > 1 || list.isReading);

const filtersBy = (value) => Object.fromEntries(FILTERS.map((name) => [name, value(name)]));

/** A page with predictions: one may be empty and still lead on. */
async function read(url, signal) {
  for (let tries = 0; tries < MAX_EMPTY_PAGES; tries++) {
    const page = await getPage(url, signal);
    url = page.next;
    if (page.body.length || !url) return { predictions: page.body, next: url };
  }
  return { predictions: [], next: url };
}

function show({ predictions, next }) {
  const nothing = next ? "Nothing found so far; look further back." : "No prediction in this range passes these filters.";
  replace(byId("predictions"), predictions.length ? predictionTable(predictions, LIST) : h("p", { class: "empty" }, nothing));
  byId("predictions").removeAttribute("aria-busy");
  list.body = byId("predictions").querySelector("tbody");
  more(next);
}

function more(next) {
  const button = byId("more");
  button.hidden = !next;
  button.disabled = false;
  setText(button, "Older predictions");
  button.onclick = () => older(list, next, button);
}

/** Append the next page to its list, unless another list is shown by then. */
async function older(mine, next, button) {
  const { signal } = mine.controller;
  button.disabled = true;
  mine.isReading = true;
  try {
    const found = await read(next, signal);
    if (signal.aborted) return;
    mine.pages += 1;
    if (!mine.body) return show(found);
    mine.body.append(...found.predictions.map((prediction) => predictionRow(prediction, LIST)));
    more(found.next);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    button.disabled = false;
    setText(button, `${error.message} Try again`);
  } finally {
    mine.isReading = false;
  }
}

/** Show the filters of the address; what was typed and not asked for yet stays until these change. */
function filters() {
  const form = byId("filters");
  const wanted = JSON.stringify(filtersBy(param));
  if (form.dataset.shown === wanted) return;
  form.dataset.shown = wanted;
  const names = h("datalist", { id: "names" });
  const field = (name, label, attributes) => h("label", {}, label, h("input", { id: name, name, value: param(name) ?? "", autocomplete: "off", spellcheck: "false", ...attributes }));
  const hasNone = param("model_version") === "";
  const outcomes = [["", "Any"], ["true", "Succeeded"], ["false", "Failed"]];
  form.onsubmit = (event) => {
    event.preventDefault();
    document.activeElement?.blur();
    const given = new FormData(form);
    // An empty field is no filter; that predictions have no version is "" in the address.
    change({ ...filtersBy((name) => given.get(name) || null), ...(given.has("no_version") && { model_version: "" }) });
  };
  replace(form,
    field("model_name", "Model", { list: "names", placeholder: "any model" }), names,
    field("model_version", "Version", { placeholder: hasNone ? "none" : "any version", disabled: hasNone }),
    h("label", {}, "No version", h("input", { type: "checkbox", id: "no_version", name: "no_version", checked: hasNone, onchange: () => form.requestSubmit() })),
    h("label", {}, "Outcome", h("select", { id: "was_successful", name: "was_successful", onchange: () => form.requestSubmit() },
      outcomes.map(([value, label]) => h("option", { value, selected: (param("was_successful") ?? "") === value }, label)))),
    field("min_duration_ms", "At least, in ms", { inputmode: "decimal", placeholder: "0" }),
    h("button", { class: "primary" }, "Show"),
    h("button", { type: "button", id: "clear", onclick: () => (form.reset(), change(filtersBy(() => null))) }, "Clear"));
  const input = form.querySelector("#model_name");
  input.addEventListener("input", () => suggest(input, names));
}

async function suggest(input, names) {
  const search = input.value || undefined;
  const found = await get("api/v1/models", { search, limit: 50 }).catch(() => []);
  if ((input.value || undefined) !== search) return;
  replace(names, [...new Set(found.map((entry) => entry.model_name))].map((name) => h("option", { value: name })));
}

start(load);
