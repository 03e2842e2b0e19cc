// Figures as people read them. Each has its exact value beside it, as a title or an attribute.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
const NOTHING = "–";

export const count = (number) =>
  number === null || number === undefined ? NOTHING : number < 1e6 ? whole.format(number) : compact.format(number);

export const exactCount = (number) => whole.format(number);

/** Three significant digits, and the unit that fits. */
export function duration(ms) {
  if (ms === null || ms === undefined) return NOTHING;
  if (ms === 0) return "0 ms";
  const [value, unit] = ms < 1000 ? [ms, "ms"] : ms < 120_000 ? [ms / 1000, "s"] : ms < 7_200_000 ? [ms / 60_000, "min"] : [ms / 3_600_000, "h"];
  const digits = value < 0.01 ? value.toPrecision(2) : value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : whole.format(Math.round(value));
  return `${digits} ${unit}`;
}

/** A share of 0 … 1. What is not quite nothing, or not quite all, does not look as if it were. */
export function percent(share) {
  if (share === null || share === undefined) return NOTHING;
  const value = 100 * share;
  if (value === 0 || value === 100) return `${value}%`;
  if (value < 0.01) return "<0.01%";
  if (value > 99.99) return ">99.99%";
  return `${value < 1 || value > 99 ? value.toFixed(2) : value.toFixed(1)}%`;
}

/** From this share of failed predictions on a figure is marked. */
export const FAILING = 0.02;

export const errorRate = (tally) => (tally.total_requests ? tally.failed_requests / tally.total_requests : null);

/** How long ago, or how long: the two largest units that matter to a reader. */
export function span(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

const formats = new Map();

function format(zone, options) {
  const name = zone + JSON.stringify(options);
  if (!formats.has(name)) formats.set(name, new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }));
  return formats.get(name);
}

const DATE = { year: "numeric", month: "short", day: "2-digit" };
const TIME = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

export const dateTime = (instant, zone) => format(zone, { ...DATE, ...TIME }).format(new Date(instant)).replace(",", "");
export const dateTimeSeconds = (instant, zone) =>
  format(zone, { ...DATE, ...TIME, second: "2-digit", fractionalSecondDigits: 3 }).format(new Date(instant)).replace(",", "");
export const clock = (instant, zone) => format(zone, TIME).format(new Date(instant));
export const dayMonth = (instant, zone) => format(zone, { day: "numeric", month: "short" }).format(new Date(instant));

/** What the clock of a zone shows at an instant, as milliseconds since 1970 of that clock. */
export function wall(instant, zone) {
  const options = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric", hourCycle: "h23", era: "short" };
  const parts = Object.fromEntries(format(zone, options).formatToParts(new Date(instant)).map((part) => [part.type, part.value]));
  return Date.UTC(parts.year, MONTHS(parts.month), parts.day, parts.hour, parts.minute, parts.second) + (new Date(instant).getTime() % 1000);
}

const MONTHS = (number) => Number(number) - 1;
