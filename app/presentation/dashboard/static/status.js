// Whether a model is still used, in the same words on every page.

import { span } from "./format.js";

/** What is known of a model, {silent, lastSeen}, with one more of its versions as the API lists them. */
export function withVersion(known, version) {
  const lastSeen = Date.parse(version.last_seen) + version.last_seen_within_s * 1000;
  if (!known) return { silent: version.silent, lastSeen };
  // A model is silent if each of its versions is, and not known to be after a single prediction.
  const silent = known.silent === false || version.silent === false ? false : known.silent || version.silent;
  return { silent, lastSeen: Math.max(known.lastSeen, lastSeen) };
}

/** The kind of a badge, and its text. */
export function statusOf({ silent, lastSeen }) {
  if (silent) return { kind: "silent", text: `Silent for ${span((Date.now() - lastSeen) / 1000)}` };
  return silent === null ? { kind: "new", text: "One prediction" } : { kind: "active", text: "Active" };
}
