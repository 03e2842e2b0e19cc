// What a page shows is in its address: range, zone, filters, what is open. So it can be sent to a colleague.

import { wall } from "./format.js";

export const PRESETS = {
  "15m": ["15 min", 900], "1h": ["1 h", 3600], "6h": ["6 h", 21600],
  "24h": ["24 h", 86400], "7d": ["7 d", 604800], "30d": ["30 d", 2592000],
};
export const DAYS = { today: "Today", yesterday: "Yesterday" };
const DEFAULT = "24h";
const WALL = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?$/;

const params = () => new URLSearchParams(location.search);

/** One parameter of the address, or null. */
export const param = (name) => params().get(name);

/** Change parameters of the address (null takes one out, "" is a value) and tell the page; `replace` leaves no step back. */
export function change(changes, { replace = false } = {}) {
  const next = params();
  for (const [name, value] of Object.entries(changes)) value === null ? next.delete(name) : next.set(name, value);
  history[replace ? "replaceState" : "pushState"](null, "", `?${next}`);
  dispatchEvent(new Event("viewchange"));
}

/** The time zone: of the address, else the one chosen last, else the browser's. */
export function zone() {
  const chosen = param("zone") ?? localStorage.getItem("predlog-zone") ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  return chosen || "UTC";
}

/** The zone that times are written in: UTC if the browser does not know the one that was asked for. */
export function knownZone() {
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone() });
    return zone();
  } catch {
    return "UTC";
  }
}

/** Which preset is chosen; null for a range of its own. */
export const preset = () => (param("from") || param("to") ? null : PRESETS[param("range")] || DAYS[param("range")] ? param("range") : DEFAULT);

/** The range as parameters of the API. A preset ends now. */
export function range(now = Date.now()) {
  const chosen = preset();
  const timezone = zone();
  if (chosen === null) return { from: bound(param("from")), to: bound(param("to")), timezone };
  if (chosen in DAYS) {
    const day = new Date(wall(now, knownZone()) - (chosen === "yesterday" ? 86400_000 : 0)).toISOString().slice(0, 10);
    return { from: day, to: day, timezone };
  }
  const end = Math.ceil(now / 1000) * 1000;
  return { from: new Date(end - PRESETS[chosen][1] * 1000).toISOString(), to: new Date(end).toISOString(), timezone };
}

/** The same length of time, just before an answer's range; or so many days earlier by the zone's clock. */
export function earlier({ from, to }, days) {
  const [start, end] = [Date.parse(from), Date.parse(to)];
  const first = days ? daysBefore(start, days) : start - (end - start);
  const last = days ? daysBefore(end, days) : start;
  // In an hour that the clock left out then, a short range could end before it begins.
  return { from: new Date(first).toISOString(), to: new Date(last > first ? last : first + (end - start)).toISOString() };
}

const daysBefore = (at, days) => instant(new Date(wall(at, knownZone()) - days * 86400_000).toISOString().slice(0, -1), knownZone());

/** A time without an offset is one of the chosen zone's clock. */
function bound(text) {
  return !text ? undefined : WALL.test(text) ? new Date(instant(text, knownZone())).toISOString() : text;
}

/** The instant at which the clock of a zone shows a time. */
export function instant(text, zone) {
  const shown = Date.parse(`${text}Z`);
  const first = shown - (wall(shown, zone) - shown);
  return shown - (wall(first, zone) - first);
}

/** A time of the zone's clock as an input takes it. */
export const wallText = (at, zone) => new Date(wall(at, zone)).toISOString().slice(0, 16);

/** The part of the address that leads to the same range on another page. */
export function rangeQuery(more = {}) {
  const next = new URLSearchParams();
  for (const name of ["range", "from", "to", "zone"]) if (param(name)) next.set(name, param(name));
  for (const [name, value] of Object.entries(more)) if (value !== null && value !== undefined) next.set(name, value);
  return next.size ? `?${next}` : "";
}
