// Elements without HTML text: whatever a name or an error holds, it becomes a text node.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element: h("td", {class: "number"}, "12"). An attribute `onclick` is a listener. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** The same in SVG. */
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

/** Put text where it is not yet, so that what has not changed is not painted again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A part of the page that scrolls by itself, for a table that is wider than a phone. */
export const scroller = (label, ...children) =>
  h("div", { id: `scroller-${label.replaceAll(" ", "-")}`, class: "scroll", tabindex: "0", role: "group", "aria-label": label }, ...children);

/** Replace the children of an element. By their ids, what had the focus keeps it, and scrollers stay where they were. */
export function replace(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = [...element.querySelectorAll(".scroll")].map(({ id, scrollLeft, scrollTop }) => [id, scrollLeft, scrollTop]);
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (focused) byId(focused)?.focus();
  for (const [id, left, top] of scrolled) byId(id)?.scrollTo(left, top);
}
