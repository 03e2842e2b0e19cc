// What all pages share: range, zone, refresh, theme, the question for a key, and what to say if something goes wrong.

import { byId, h, replace, setText } from "./dom.js";
import { dateTime, clock } from "./format.js";
import { ApiError, key } from "./http.js";
import { change, DAYS, knownZone, preset, PRESETS, rangeQuery, wallText, zone } from "./view.js";

const REFRESH_MS = 30_000;
const THEMES = ["system", "light", "dark"];
let load, controller, timer, counted;
let refused; // the key for which the dialog has been opened: closed by hand, it stays so
let isTyped = false; // whether the reader has changed what the panel for a range says
let isShown = false; // whether there is anything to see below a notice
let isLive = localStorage.getItem("predlog-live") !== "off";

/** Run a page: `task(signal)` loads and shows, at first, after each change of the address, and every half minute. */
export function start(task) {
  load = task;
  controls();
  document.addEventListener("visibilitychange", () => isLive && !document.hidden && refresh());
  document.addEventListener("keydown", shortcuts);
  for (const event of ["popstate", "viewchange"]) addEventListener(event, () => ((isTyped = false), controls(), refresh()));
  return refresh();
}

/** Load now; what is still on its way is given up. */
export async function refresh() {
  clearTimeout(timer);
  controller?.abort();
  const mine = (controller = new AbortController());
  document.documentElement.dataset.state = "loading";
  try {
    await load(mine.signal);
    if (mine.signal.aborted) return;
    isShown = true;
    notice(null);
    document.documentElement.dataset.state = "ready";
  } catch (error) {
    if (mine.signal.aborted) return;
    document.documentElement.dataset.state = "failed";
    if (error.status === 401 && refused !== key.get()) {
      refused = key.get();
      askForKey(refused ? "This key is not known, or no longer." : null);
    }
    if (!(error instanceof ApiError)) console.error(error);
    notice(error instanceof ApiError ? error : new Error("This page has an error of its own; the console has it."));
  }
  if (isLive && !document.hidden) timer = setTimeout(refresh, nextRefresh());
}

let nextRefresh = () => REFRESH_MS;

/** Say how soon to look again, in milliseconds: an empty service is looked at more often. */
export const refreshAfter = (milliseconds) => (nextRefresh = () => milliseconds ?? REFRESH_MS);

/** Say at the foot of the page what was counted, and when. */
export function tellRange(answer) {
  counted = answer;
  isShown = true;
  const [from, to] = [answer.range.from, answer.range.to].map((at) => dateTime(at, knownZone()));
  const footer = byId("counted");
  footer.dataset.from = answer.range.from;
  footer.dataset.to = answer.range.to;
  const widened = answer.cut_to_request ? "" : " (widened to whole buckets: finer data is gone)";
  setText(footer, `${from} – ${to}, ${zone()}${widened}. Exact counts as of ${clock(Date.now(), knownZone())}.`);
  if (!byId("custom").hidden && !isTyped) fillCustom();
}

function notice(error) {
  const isRefused = [401, 403].includes(error?.status);
  replace(
    byId("notice"),
    error &&
      h("div", { class: "notice" },
        h("strong", {}, isShown ? "Not refreshed: what you see is older." : "Nothing can be shown."), " ", h("span", {}, error.message), " ",
        h("button", { type: "button", onclick: refresh }, "Try again"),
        isRefused && h("button", { type: "button", onclick: () => askForKey(error.message) }, "Use another key")),
  );
}

function askForKey(problem) {
  const dialog = byId("key");
  if (dialog.open) return; // a key is being typed
  const field = h("input", { id: "key-field", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  replace(
    dialog,
    h("form", { method: "dialog", onsubmit: () => (key.set(field.value.trim()), (refused = undefined), refresh()) },
      h("h2", { id: "key-title" }, "A key, please"),
      h("p", {}, "This service answers only to those who have an API key with scope ", h("code", {}, "read"), ". It stays in this tab until you close it."),
      problem && h("p", { class: "bad", id: "key-problem" }, problem),
      h("label", { for: "key-field" }, "API key"), field,
      h("div", { class: "row" }, h("button", { class: "primary" }, "Show the figures"))),
  );
  dialog.showModal();
  field.focus();
}

function controls() {
  const chosen = preset();
  const pick = (name) => () => change({ range: name, from: null, to: null });
  replace(
    byId("controls"),
    h("div", { class: "segments", role: "group", "aria-label": "Range" },
      Object.entries(PRESETS).map(([name, [label]]) =>
        h("button", { type: "button", id: `range-${name}`, "aria-pressed": String(name === chosen), onclick: pick(name) }, label)),
      h("button", { type: "button", id: "range-custom", "aria-pressed": String(!(chosen in PRESETS)), "aria-expanded": String(!byId("custom").hidden), "aria-controls": "custom", onclick: toggleCustom },
        chosen in DAYS ? DAYS[chosen] : "Custom", h("span", { class: "zone" }, zone().split("/").pop().replaceAll("_", " ")))),
    h("button", { type: "button", id: "live", class: "icon", "aria-pressed": String(isLive), title: "Refresh every 30 seconds", onclick: toggleLive },
      h("span", { class: "dot", "aria-hidden": "true" }), isLive ? "Live" : "Paused"),
    h("button", { type: "button", id: "theme", class: "icon", title: "Light, dark, or as the system has it", onclick: nextTheme },
      h("span", { "aria-hidden": "true" }, "◐"), h("span", { class: "unseen" }, `Theme: ${theme()}`)),
  );
  for (const link of document.querySelectorAll("a[data-keeps-range]")) link.href = link.href.split("?")[0] + rangeQuery();
}

function toggleCustom() {
  const panel = byId("custom");
  panel.hidden = !panel.hidden;
  byId("range-custom").setAttribute("aria-expanded", String(!panel.hidden));
  if (!panel.hidden) {
    custom();
    byId("custom-from").focus();
  }
}

function custom() {
  const from = h("input", { id: "custom-from", type: "datetime-local", required: true });
  const to = h("input", { id: "custom-to", type: "datetime-local", required: true });
  const place = h("input", { id: "custom-zone", list: "zones", required: true, spellcheck: "false", autocomplete: "off" });
  const apply = (event) => {
    event.preventDefault();
    localStorage.setItem("predlog-zone", place.value);
    change({ from: from.value, to: to.value, zone: place.value, range: null });
  };
  const onlyZone = () => {
    localStorage.setItem("predlog-zone", place.value);
    change({ zone: place.value });
  };
  replace(
    byId("custom"),
    h("form", { onsubmit: apply, oninput: () => (isTyped = true) },
      h("label", {}, "From", from), h("label", {}, "To", to), h("label", {}, "Time zone", place),
      h("datalist", { id: "zones" }, ["UTC", ...Intl.supportedValuesOf("timeZone")].map((name) => h("option", { value: name }))),
      h("button", { class: "primary" }, "Show this range"),
      h("button", { type: "button", id: "only-zone", onclick: onlyZone }, "Change the zone only"),
      Object.entries(DAYS).map(([name, label]) => h("button", { type: "button", onclick: () => change({ range: name, from: null, to: null }) }, label))),
  );
  isTyped = false;
  fillCustom();
}

/** Put the range that is shown into the panel for another. */
function fillCustom() {
  byId("custom-from").value = wallText(counted?.range.from ?? Date.now() - 86400_000, knownZone());
  byId("custom-to").value = wallText(counted?.range.to ?? Date.now(), knownZone());
  byId("custom-zone").value = zone();
}

function toggleLive() {
  isLive = !isLive;
  localStorage.setItem("predlog-live", isLive ? "on" : "off");
  controls();
  isLive ? refresh() : clearTimeout(timer);
}

const theme = () => document.documentElement.dataset.theme ?? "system";

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("predlog-theme");
  } else {
    document.documentElement.dataset.theme = next;
    localStorage.setItem("predlog-theme", next);
  }
  controls();
  dispatchEvent(new Event("themechange"));
}

function shortcuts(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "/") {
    event.preventDefault();
    byId("search")?.focus();
  } else if (event.key === "r") refresh();
}
