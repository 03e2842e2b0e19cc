// Tables of calls: each row opens its call.

import { h } from "./dom.js";
import { dateTimeSeconds, duration } from "./format.js";
import { open } from "./prediction.js";
import { knownZone } from "./view.js";

/** A table of calls; `withModel` says whether there is a column for the model. */
export function callTable(calls, { withModel = false, label }) {
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
    h("table", { class: "calls" },
      h("thead", {}, h("tr", {}, ["Time", withModel && "Model", "Version", "Duration", "Outcome"].filter(Boolean).map((name) => h("th", { scope: "col", class: name === "Duration" && "number" }, name)))),
      h("tbody", {}, calls.map((call) => callRow(call, withModel)))));
}

/** One row of it. */
export const callRow = (call, withModel) =>
  h("tr", { "data-id": call.id },
    h("td", { class: "when" }, h("button", { type: "button", class: "link", onclick: () => open(call.id) }, dateTimeSeconds(call.timestamp, knownZone()))),
    withModel && h("td", { class: "cut", title: call.model_name }, call.model_name),
    h("td", { class: "cut version", title: call.model_version }, call.model_version ?? "–"),
    h("td", { class: "number", "data-value": call.duration_ms }, duration(call.duration_ms)),
    h("td", { class: "cut outcome", title: call.error },
      call.was_successful ? h("span", { class: "badge badge-active" }, "succeeded") : [h("span", { class: "badge badge-bad" }, "failed"), " ", h("span", { class: "error-text" }, call.error ?? "without an error")]));
