// One prediction, whole, in a dialog; the address says which one is open.

import { byId, h, replace } from "./dom.js";
import { dateTimeSeconds, duration } from "./format.js";
import { refresh } from "./frame.js";
import { ApiError, get, ROOT } from "./http.js";
import { knownZone, param, rangeQuery } from "./view.js";

/** Open a prediction by its id, and say so in the address. */
export async function open(id) {
  address(id);
  try {
    await show(id);
  } catch (error) {
    if (error.status !== 401) throw error;
    refresh(); // asks for a key
  }
}

/** Open the prediction that the address names, if it names one. Throws ApiError if a key is needed. */
export async function openFromAddress(signal) {
  const id = param("open");
  const dialog = byId("prediction");
  if (!id) return dialog.open && dialog.close();
  if (!dialog.open || dialog.dataset.id !== id) await show(id, signal);
}

async function show(id, signal) {
  const dialog = byId("prediction");
  let found, problem;
  try {
    found = await get(`api/v1/predictions/${encodeURIComponent(id)}`, {}, signal);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 401) throw error;
    problem = error.message;
  }
  if (param("open") !== String(id)) return; // another one is open meanwhile, or none
  // One that could not be had is asked for again at the next refresh.
  found ? (dialog.dataset.id = id) : delete dialog.dataset.id;
  dialog.onclose = () => (address(null), delete dialog.dataset.id);
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  replace(dialog,
    h("div", { class: "row spread" }, h("h2", { id: "prediction-title" }, `Prediction ${id}`), h("button", { type: "button", id: "prediction-close", onclick: () => dialog.close() }, "Close")),
    found ? described(found) : h("p", { class: "empty" }, problem));
  if (!dialog.open) dialog.showModal();
}

function described(prediction) {
  const facts = [
    ["Model", h("a", { href: new URL(`dashboard/model${rangeQuery({ model_name: prediction.model_name })}`, ROOT) }, prediction.model_name)],
    ["Version", prediction.model_version ?? "none"],
    ["Time", `${dateTimeSeconds(prediction.timestamp, knownZone())} (${prediction.timestamp})`],
    ["Duration", `${duration(prediction.duration_ms)} (${prediction.duration_ms} ms)`],
    ["Outcome", prediction.was_successful ? h("span", { class: "badge badge-active" }, "succeeded") : h("span", { class: "badge badge-bad" }, "failed")],
    ["Request", prediction.request_id && h("code", {}, prediction.request_id)],
  ].filter(([, value]) => value);
  return [
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    prediction.error && [h("h3", {}, "Error"), h("pre", { class: "error", tabindex: "0", "aria-label": "Error" }, prediction.error)],
    prediction.metadata && [h("h3", {}, "Metadata"), h("pre", { tabindex: "0", "aria-label": "Metadata" }, JSON.stringify(prediction.metadata, null, 2))],
  ].flat(2).filter(Boolean).reduce((all, one) => (all.append(one), all), h("div", {}));
}

function address(id) {
  const next = new URLSearchParams(location.search);
  id ? next.set("open", id) : next.delete("open");
  history.replaceState(null, "", `?${next}`);
}
