// Tables of predictions: each row opens one.

import { h, scroller } from "./dom.js";
import { dateTimeSeconds, duration } from "./format.js";
import { open } from "./prediction.js";
import { knownZone } from "./view.js";

/** A table of predictions; `withModel` says whether there is a column for the model. */
export function predictionTable(predictions, { withModel = false, label }) {
  return scroller(label,
    h("table", { class: "predictions" },
      h("thead", {}, h("tr", {}, ["Time", withModel && "Model", "Version", "Duration", "Outcome"].filter(Boolean).map((name) => h("th", { scope: "col", class: name === "Duration" && "number" }, name)))),
      h("tbody", {}, predictions.map((prediction) => predictionRow(prediction, { withModel, label })))));
}

/** What can have the focus keeps it over a refresh by its id; one prediction may be in several tables of a page. */
const idIn = (label, name) => `${label.replaceAll(" ", "-")}-${name}`;

/** One row of it. */
export const predictionRow = (prediction, { withModel, label }) =>
  h("tr", { "data-id": prediction.id },
    h("td", { class: "when" }, h("button", { type: "button", class: "link", id: idIn(label, prediction.id), onclick: () => open(prediction.id) }, dateTimeSeconds(prediction.timestamp, knownZone()))),
    withModel && h("td", { class: "cut", title: prediction.model_name }, prediction.model_name),
    h("td", { class: "cut version", title: prediction.model_version }, prediction.model_version ?? "–"),
    h("td", { class: "number", "data-value": prediction.duration_ms }, duration(prediction.duration_ms)),
    h("td", { class: "cut outcome", title: prediction.error },
      prediction.was_successful ? h("span", { class: "badge badge-active" }, "succeeded") : [h("span", { class: "badge badge-bad" }, "failed"), " ", h("span", { class: "error-text" }, prediction.error ?? "without an error")]));
