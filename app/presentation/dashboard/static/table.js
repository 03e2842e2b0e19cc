// A table of any length: only the rows that can be seen are in the page, and each keeps its elements.

import { h } from "./dom.js";

const BEYOND = 12;

export class LongTable {
  /**
   * `make(key)` returns a row's element, `update(element, item)` fills it; `height` is that of a row in pixels.
   * `onRows(keys)` is told which rows can be seen.
   */
  constructor({ head, make, update, height, label, onRows }) {
    Object.assign(this, { make, update, height, onRows, items: [], rows: new Map() });
    this.above = h("tr", { class: "gap", "aria-hidden": "true" });
    this.below = h("tr", { class: "gap", "aria-hidden": "true" });
    this.body = h("tbody", {});
    this.element = h("table", { class: "long", "aria-label": label }, h("thead", {}, head), this.body);
    for (const event of ["scroll", "resize"]) addEventListener(event, () => this.schedule(), { passive: true });
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (this.element.isConnected) this.show();
    });
  }

  /** Show these items, each with a unique `key`, in this order. */
  set(items) {
    this.items = items;
    this.element.setAttribute("aria-rowcount", items.length + 1);
    this.show();
  }

  show() {
    const top = -this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.min(Math.floor(top / this.height) - BEYOND, this.items.length));
    const last = Math.min(this.items.length, Math.ceil((top + innerHeight) / this.height) + BEYOND);
    const seen = this.items.slice(first, Math.max(first, last));
    const wanted = new Map(seen.map((item) => [item.key, this.rows.get(item.key) ?? this.make(item.key)]));
    this.rows = wanted;
    seen.forEach((item, i) => {
      const row = wanted.get(item.key);
      row.setAttribute("aria-rowindex", first + i + 2);
      this.update(row, item);
    });
    this.above.style.height = `${first * this.height}px`;
    this.below.style.height = `${(this.items.length - Math.max(first, last)) * this.height}px`;
    this.place([this.above, ...wanted.values(), this.below]);
    this.onRows?.([...wanted.keys()]);
  }

  /** Move only what is not where it should be: a row that stays keeps its focus. */
  place(elements) {
    let at = this.body.firstChild;
    for (const element of elements) {
      if (at === element) at = at.nextSibling;
      else this.body.insertBefore(element, at);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }
}
