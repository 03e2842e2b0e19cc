// Which limits are breached now, and what people were told.

import { byId, h, replace, scroller } from "./dom.js";
import { count, dateTime, span } from "./format.js";
import { start } from "./frame.js";
import { get, ROOT } from "./http.js";
import { knownZone, rangeQuery } from "./view.js";

const EVENTS = 100;
const WORST_FIRST = ["firing", "pending", "no data", "resolved", "ok"];

async function load(signal) {
  const [{ enabled, rules }, events] = await Promise.all([
    get("api/v1/alerts", {}, signal),
    get("api/v1/alerts/history", { limit: EVENTS }, signal),
  ]);
  for (const id of ["summary", "rules"]) byId(id).removeAttribute("aria-busy");
  summary(enabled ? rules : []);
  replace(byId("rules"), h("h2", {}, "Rules"), enabled ? table("Rules", ["State", "Rule", "Model", "Since", "Measured"], ruleRows(rules)) : h("p", { class: "empty" },
    "No alerts are set up. ", h("code", {}, "ALERTS_FILE"), " names the file of the rules; ", h("code", {}, "docs/alerts.toml"), " is an example."));
  replace(byId("history"), h("h2", {}, "History"),
    events.length ? table("History", ["Time", "State", "Rule", "Model", "Measured", "Told"], events.map(eventRow)) : h("p", { class: "empty" }, "Nobody was told of anything in the last 90 days."));
}

function summary(rules) {
  const alerts = rules.flatMap((rule) => rule.alerts);
  const number = (state) => alerts.filter((alert) => alert.state === state).length;
  const tiles = [
    ["Firing", number("firing"), "bad"], ["Pending", number("pending"), "warn"], ["No data", number("no data"), "warn"],
    ["Fine", number("ok") + number("resolved"), ""], ["Rules", rules.length, ""],
  ];
  replace(byId("summary"), tiles.map(([label, value, mood]) =>
    h("div", { class: `tile ${value ? mood : ""}` }, h("span", { class: "label" }, label), h("span", { class: "figure", "data-figure": label, "data-value": value }, count(value)))));
}

function ruleRows(rules) {
  const rows = rules.flatMap((rule) => (rule.alerts.length ? rule.alerts : [null]).map((alert) => ({ rule, alert })));
  const rank = ({ alert }) => (alert ? WORST_FIRST.indexOf(alert.state) : WORST_FIRST.length);
  return rows.sort((one, other) => rank(one) - rank(other)).map(({ rule, alert }) =>
    h("tr", { "data-rule": rule.name },
      h("td", {}, badge(alert?.state ?? "none yet")),
      h("th", { scope: "row", class: "cut", title: rule.condition }, rule.name, h("div", { class: "muted condition" }, rule.condition + (rule.for_s ? `, for ${span(rule.for_s)}` : ""))),
      h("td", { class: "cut" }, alert ? link(alert.model_name, `alert-${[rule.name, alert.model_name].map(encodeURIComponent).join("/")}`) : rule.models.join(", ")),
      h("td", { class: "when" }, alert ? [dateTime(alert.since, knownZone()), h("div", { class: "muted condition" }, `for ${span((Date.now() - Date.parse(alert.since)) / 1000)}`)] : "–"),
      h("td", {}, alert?.measured ?? "–")));
}

const eventRow = (event) =>
  h("tr", { "data-id": event.id },
    h("td", { class: "when" }, dateTime(event.at, knownZone())),
    h("td", {}, badge(event.state)),
    h("td", { class: "cut" }, event.rule),
    h("td", { class: "cut" }, link(event.model_name, `event-${event.id}`)),
    h("td", {}, event.measured),
    h("td", {}, event.messages.map((message) => h("div", {}, `${message.webhook}: ${fate(message)}`))));

function fate({ delivered_at: delivered, given_up_at: givenUp, attempts, problem }) {
  const tries = attempts > 1 ? ` at the ${attempts}. attempt` : "";
  if (delivered) return `told ${dateTime(delivered, knownZone())}${tries}`;
  return `${givenUp ? "given up" : "not yet"}${tries}${problem ? `: ${problem}` : ""}`;
}

const MOODS = { firing: "bad", pending: "silent", "no data": "silent", ok: "active", resolved: "active" };
const badge = (state) => h("span", { class: `badge badge-${MOODS[state] ?? "unknown"}` }, state);
const link = (model, id) => h("a", { id, href: new URL(`dashboard/model${rangeQuery({ model_name: model })}`, ROOT) }, model);

const table = (label, names, rows) =>
  scroller(label,
    h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)));

start(load);
